"""Compiles sources, as a function and as a program: shares in by standard input, code out.

As a program it is run by its path in an interpreter with no packages (``-I -S``), so it imports
the standard library alone. Both streams are one marshalled object: a list of (text, file name)
in, what ``compile_texts`` returns out. It ends by itself when whoever started it is gone.
"""

from __future__ import annotations

import marshal
import sys


def compile_texts(texts: list[tuple[bytes, str]]) -> tuple[list[bytes], str]:
    """Return the marshalled code of each (text, file name), and what was wrong with the first
    that is no Python ("" if all are), after which no more are compiled."""
    codes = []
    for text, name in texts:
        try:
            code = compile(text, name, "exec", dont_inherit=True, optimize=0)
            # References (versions 3 and up) hang on what else the process holds.
            codes.append(marshal.dumps(code, 2))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return codes, f"cannot compile {name}: {error}"
    return codes, ""


def _main() -> int:
    try:
        texts = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 from who started this
    except (EOFError, ValueError):
        return 1  # the one who was writing it has ended
    answer = marshal.dumps(compile_texts(texts))
    try:
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
