"""Settings: read once at the start, handed down as arguments.

Each is a flag, or else an environment variable, or else a line of ``qw.toml``, or else has a default. Every command
goes through here, so nothing heavy is imported.
"""

from qw.config.loading import ShownSetting, check_listening, is_loopback, load, redacted, shown
from qw.config.settings import Origin, Settings, default_home
from qw.config.values import LogFormat, LogLevel, Role, Token

__all__ = [
    "LogFormat",
    "LogLevel",
    "Origin",
    "Role",
    "Settings",
    "ShownSetting",
    "Token",
    "check_listening",
    "default_home",
    "is_loopback",
    "load",
    "redacted",
    "shown",
]
