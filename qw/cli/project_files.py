"""The files of a new project, written by ``qw init``."""

from __future__ import annotations

from collections.abc import Mapping

_SETTINGS = """\
# Settings of qw in this directory. Every line is optional. Environment
# variables (QW_CONCURRENCY=20) and options of commands win over this file.
# qw config show lists all settings and where each comes from.

# The database. Unset: a private PostgreSQL that qw starts itself.
# database_url = "postgresql://localhost/app"

# How many tasks one daemon runs at once: async handlers, sync handlers
# (threads), commands. For a running daemon: qw worker slots
# concurrency = 100
# threads = 32
# command_slots = 2

# How long finished tasks are kept.
# retention_completed = "7d"
# retention_failed = "30d"

# The address of the HTTP API.
# host = "127.0.0.1"
# port = 3030
"""

_TASKS = '''\
"""Tasks of this project. Run a worker for them: qw daemon --app tasks:app"""

from qw import Context, Handlers

app = Handlers()


@app.task(max_retries=5, timeout=30)
async def greet(context: Context, name: str, greeting: str = "Hello") -> str:
    """A task: its arguments are the payload, what it returns is the result.

    An error is retried; here it runs at most 5 times.
    """
    await context.log(f"greeting {name}")
    return f"{greeting}, {name}!"


@app.task()
def count_letters(text: str) -> int:
    """A function without async runs in a thread."""
    return sum(letter.isalpha() for letter in text)
'''

_WORKFLOWS = """\
# Workflows, loaded by qw daemon in this directory.
# Check them with: qw workflow validate. All keys: docs/workflows.md
# Completion in editors: qw workflow schema --help
version: 1

workflows:
  hello:
    description: Greet somebody and count the letters
    input:
      name: { type: string, default: world }
    steps:
      - id: greet
        type: greet # a task of tasks.py
        with: { name: "${{ input.name }}" }
      - id: count
        type: count_letters
        needs: greet # starts when greet has completed
        with: { text: "${{ steps.greet.result }}" }
      # A step can also be a shell command, which gets values as environment
      # variables:
      # - id: save
      #   needs: greet
      #   run: echo "$TEXT" >> greetings.txt
      #   env: { TEXT: "${{ steps.greet.result }}" }
    outputs:
      letters: ${{ steps.count.result }}

# schedules:
#   every-morning:
#     cron: "0 7 * * *"
#     timezone: Europe/Berlin
#     workflow: hello
"""

PROJECT: Mapping[str, str] = {"qw.toml": _SETTINGS, "tasks.py": _TASKS, "workflows.yaml": _WORKFLOWS}
