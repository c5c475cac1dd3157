"""Python sources to bytecode that has no time and no source beside it (PEP 552).

What the interpreter has compiled already (``__pycache__``, PEP 3147) is taken if it is of the
source as it is now; the rest is compiled, by several processes if it is much, and kept in the
cache by the digest of its sources.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from initramfs.checkedcache import CheckedCache
from initramfs.errors import InputError
from mindi import compileworker
from mindi.compileworker import compile_texts

# PEP 552: magic, flags (bit 0: hash-based, bit 1: to be checked), and 8 bytes of hash, which
# nobody looks at in a file that is not to be checked.
_UNCHECKED = importlib.util.MAGIC_NUMBER + struct.pack("<IQ", 0b01, 0)
_HEADER_BYTES = len(_UNCHECKED)

# Starting a process costs about as much as compiling this much.
_WORTH_A_PROCESS_BYTES = 400_000
# An entry takes some megabytes, and there is one for each state of all sources.
_CACHE_BYTES = 1 << 27


@dataclass(frozen=True, slots=True)
class Source:
    """A source file of the build host and the path that it has, or would have, in the image."""

    path: Path
    image_path: str

    def read(self) -> bytes:
        """Return the text; raise InputError if it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error


def compile_sources(
    sources: Sequence[Source], *, cache: Path | None, jobs: int, take_compiled: bool = True
) -> Iterator[tuple[str, bytes]]:
    """Yield (image path of the source, bytes of its .pyc), in the order of ``sources``.

    ``take_compiled`` says whether the bytecode beside the sources may be taken. That of another
    root must not: reading it (marshal) is no safer than running it.
    """
    ready = [_compiled_before(source) if take_compiled else None for source in sources]
    left = [source for source, code in zip(sources, ready, strict=True) if code is None]
    made = iter(_compile_all(left, cache=cache, jobs=jobs))
    for source, taken in zip(sources, ready, strict=True):
        code = next(made) if taken is None else taken
        if str(source.path) != source.image_path:
            code = _renamed(code, source.image_path)
        yield source.image_path, _UNCHECKED + code


def _compiled_before(source: Source) -> bytes | None:
    """Return the code that the interpreter has compiled of this very state of the source."""
    place = source.path.parent / importlib.util.cache_from_source(source.path.name)
    try:
        data = place.read_bytes()
        status = source.path.stat()
    except OSError:
        return None
    now = struct.pack("<III", 0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    if data[:_HEADER_BYTES] != importlib.util.MAGIC_NUMBER + now or len(data) == _HEADER_BYTES:
        return None
    return data[_HEADER_BYTES:]


def _renamed(code: bytes, name: str) -> bytes:
    """Give marshalled code another file name, the same bytes whoever compiled it.

    Version 2 of the format has no references, so that nothing hangs on who else holds an object.
    """
    return marshal.dumps(_with_name(marshal.loads(code), name), 2)  # noqa: S302 our interpreter's


def _with_name(code: CodeType, name: str) -> CodeType:
    constants = tuple(
        _with_name(constant, name) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=name, co_consts=constants)


def _compile_all(sources: list[Source], *, cache: Path | None, jobs: int) -> list[bytes]:
    texts = [(source.read(), source.image_path) for source in sources]
    shelf, key = None, ""
    if cache is not None and texts:
        shelf, key = CheckedCache(cache / "bytecode", limit_bytes=_CACHE_BYTES), _digest(texts)
        kept = shelf.load(key)
        if kept is not None:
            return list(marshal.loads(kept))  # noqa: S302 what we kept, and it is plain bytes
    size = sum(len(text) for text, _ in texts)
    workers = min(jobs, 1 + size // _WORTH_A_PROCESS_BYTES)
    codes = _compile_shares(_shares(texts, workers))
    if shelf is not None:
        shelf.store(key, marshal.dumps(codes))
        shelf.evict()
    return codes


def _shares(texts: list[tuple[bytes, str]], count: int) -> list[list[tuple[bytes, str]]]:
    """Cut into ``count`` runs of about the same size, in order."""
    total, before = 1 + sum(len(text) for text, _ in texts), 0
    shares: list[list[tuple[bytes, str]]] = [[] for _ in range(max(count, 1))]
    for text, name in texts:
        shares[before * len(shares) // total].append((text, name))
        before += len(text)
    return shares


def _compile_shares(shares: list[list[tuple[bytes, str]]]) -> list[bytes]:
    """Compile the first share here, and each other in a process of its own meanwhile.

    These are interpreters on pipes and no pool: a pool's threads and callbacks swallow an
    interrupt, and its processes inherit our handlers and outlive us.
    """
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for share in shares[1:]:
            workers.append(_worker())
            _send(workers[-1], share)
        codes = _checked(compile_texts(shares[0]))
        for worker in workers:
            codes += _received(worker)
    finally:
        for worker in workers:
            worker.kill()
            with contextlib.suppress(BrokenPipeError), worker:  # closes the pipes, waits
                pass
    return codes


def _worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", compileworker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for us: it would end with a traceback
    )


def _send(worker: subprocess.Popen[bytes], share: list[tuple[bytes, str]]) -> None:
    assert worker.stdin is not None  # noqa: S101 it is a pipe
    with contextlib.suppress(BrokenPipeError), worker.stdin:
        worker.stdin.write(marshal.dumps(share))


def _received(worker: subprocess.Popen[bytes]) -> list[bytes]:
    assert worker.stdout is not None  # noqa: S101 it is a pipe
    answer = worker.stdout.read()
    if worker.wait() != 0:
        raise InputError(
            f"cannot compile the Python sources: the compiler ended with {worker.returncode}",
            hint="build with --jobs 1, or where there is more memory",
        )
    return _checked(marshal.loads(answer))  # noqa: S302 of our own program


def _checked(made: tuple[list[bytes], str]) -> list[bytes]:
    codes, wrong = made
    if wrong:
        raise InputError(wrong)
    return codes


def _digest(texts: list[tuple[bytes, str]]) -> str:
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for text, name in texts:
        digest.update(f"{len(text)} {name}\n".encode())
        digest.update(text)
    return digest.hexdigest()
