"""Reads an initrd back as the kernel does (init/initramfs.c, unpack_to_rootfs).

An initrd is a run of cpio archives, plain or in compressed frames of any codec, with zeros
between them. The kernel asks of each frame that it ends where an entry ends; so do we.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from initramfs.codec import Codec
from initramfs.compress import decompress_frame, detect
from initramfs.cpio import CpioMember, CpioReader
from initramfs.errors import InputError
from initramfs.stream import ByteStream, Readable


@dataclass(frozen=True, slots=True)
class Limits:
    """What an honest initrd stays far below; more is taken for an attack on the reader."""

    unpacked_bytes: int = 4 << 30
    entries: int = 500_000
    segments: int = 10_000


@dataclass(frozen=True, slots=True)
class Segment:
    """One plain archive or compressed frame: where it begins, how long it is, what it holds."""

    offset: int
    size_bytes: int
    codec: Codec
    unpacked_bytes: int


class InitrdReader:
    """Iterates over the members of an initrd; ``segments`` grows by each that was read whole."""

    def __init__(
        self, stream: Readable, *, name: str = "initrd", limits: Limits | None = None
    ) -> None:
        """Read ``stream`` from where it stands to its end; offsets count from there."""
        self.segments: list[Segment] = []
        self._source = ByteStream.of(stream, name=name)
        self._limits = limits or Limits()
        self._unpacked_bytes = 0
        self._entries = 0

    def __iter__(self) -> Iterator[CpioMember]:
        """Yield the members; raises InputError, naming the byte, for what is damaged."""
        source = self._source
        complete, empty = False, True
        while True:
            source.skip_zeros()
            head = source.peek(6)
            if not head:
                break
            empty = False
            codec = detect(head)
            if codec is None and head[:1] != b"0":
                raise source.damaged(
                    "neither a cpio archive nor a frame that the kernel knows",
                    hint="it is no initrd, or it is damaged",
                )
            if len(self.segments) >= self._limits.segments:
                raise InputError(f"{source.name} has more than {self._limits.segments} parts")
            start, before = source.offset, self._unpacked_bytes
            inner = source if codec is None else self._frame(codec)
            reader = CpioReader(inner)
            for member in reader:
                self._count(member)
                yield member
            if codec is not None and inner.peek(1):
                raise inner.damaged("something that is no cpio header")
            complete = reader.complete
            size = source.offset - start
            unpacked = size if codec is None else self._unpacked_bytes - before
            self.segments.append(Segment(start, size, codec or Codec.NONE, unpacked))
        if empty:
            raise InputError(f"{source.name} is empty")
        if not complete:
            raise source.damaged("the last archive has no trailer", hint="the image is truncated")

    def _frame(self, codec: Codec) -> ByteStream:
        name = f"{self._source.name}: in the {codec} frame at byte {self._source.offset}"
        chunks = decompress_frame(self._source, codec)

        def more() -> bytes:
            chunk = next(chunks, b"")
            self._unpacked_bytes += len(chunk)
            if self._unpacked_bytes > self._limits.unpacked_bytes:
                raise InputError(
                    f"{name}: unpacks to more than {self._limits.unpacked_bytes} bytes"
                )
            return chunk

        return ByteStream(more, name=name)

    def _count(self, member: CpioMember) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise InputError(f"{self._source.name} has more than {self._limits.entries} entries")


def unpack(
    stream: Readable, *, name: str = "initrd", limits: Limits | None = None
) -> Iterator[CpioMember]:
    """Yield the members of the initrd in ``stream``, in order; see ``InitrdReader``."""
    return iter(InitrdReader(stream, name=name, limits=limits))
