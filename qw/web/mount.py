"""Paths of an application that is mounted below another, and the relative URL of its root."""

from __future__ import annotations

from starlette.types import Scope


def path_below(scope: Scope) -> str:
    """Return the requested path without the mount's prefix; empty for the mount's own path without a slash."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def way_to_root(scope: Scope) -> str:
    """Return the relative URL from the requested path to this application's root: ``./``, ``../``, …"""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    below = raw.count(b"/") - scope.get("root_path", "").count("/") - 1
    return "../" * below or "./"
