"""Prints the result of a command on standard output, which nothing else is written to."""

from __future__ import annotations

import json
import os
import sys

from initramfs.errors import OutputError


def print_result(result: object) -> None:
    """Print text as it is, anything else as JSON. Raises OutputError where nothing takes it."""
    text = result if isinstance(result, str) else json.dumps(result, indent=2, sort_keys=True)
    if sys.stdout is None:  # it was closed when this began
        raise OutputError("cannot write to standard output: it is closed")
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def _drop_output() -> None:
    """Lose what is still to be written, which Python would try again at its end and fail."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
