"""The version of this project, from the metadata of its distribution."""

from __future__ import annotations


def version() -> str:
    """Return the version, such as ``0.1.0``."""
    from importlib.metadata import version as of

    return of("mindi")
