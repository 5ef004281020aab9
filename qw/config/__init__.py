"""Settings, read once at start-up and passed on as arguments.

A value comes from a flag, an environment variable, ``qw.toml`` or the default, in this order. Every command loads this
package, so it imports nothing heavy.
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
