"""Renders the templates in mindi/templates; one environment for all of them.

Templates hold loops and conditions and no other logic. A name that is not given is an
error (StrictUndefined); ``sh`` quotes a value for a shell.
"""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 shell scripts and boot menus, never HTML
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment


def render(template: str, **names: object) -> str:
    """Return ``templates/<template>`` rendered with ``names``; raise jinja2.UndefinedError."""
    return _environment().get_template(template).render(**names)
