"""Where this application stands: under which path of a larger one, and how a page of it finds back to its root."""

from __future__ import annotations

from starlette.types import Scope


def path_below(scope: Scope) -> str:
    """The requested path without that of the mount; empty for the mount's own path without a slash."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def way_to_root(scope: Scope) -> str:
    """The relative URL of this application's root, from the requested path: ``./``, ``../``, …"""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    below = raw.count(b"/") - scope.get("root_path", "").count("/") - 1
    return "../" * below or "./"
