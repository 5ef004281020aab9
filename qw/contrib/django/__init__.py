"""qw as a backend of Django's tasks (`django.tasks` of Django 6, or the package django-tasks before that).

    INSTALLED_APPS = [..., "qw.contrib.django"]
    TASKS = {"default": {"BACKEND": "qw.contrib.django.QwBackend"}}

``manage.py migrate`` makes the schema of qw, ``manage.py qw daemon`` runs the tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.contrib.django.backend import QwBackend
    from qw.handlers import Handlers

    app: Handlers

__all__ = ["QwBackend", "app"]


def __getattr__(name: str) -> object:
    """Import on first access, because Django imports this module before settings and models are ready."""
    if name == "QwBackend":
        from qw.contrib.django.backend import QwBackend

        return QwBackend
    if name == "app":
        from qw.contrib.django.runner import handlers

        made = globals()["app"] = handlers()
        return made
    raise AttributeError(f"module 'qw.contrib.django' has no attribute {name!r}")
