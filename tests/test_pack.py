"""initramfs/pack.py and unpack.py: whole initrds, written, cached, read by others and by us."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from initramfs.checkedcache import HEAD_BYTES
from initramfs.closure import FileClosure, Kind
from initramfs.codec import Codec
from initramfs.cpio import read_cpio
from initramfs.errors import InputError, OutputError
from initramfs.pack import Frame, plan_frames, write_initrd
from initramfs.unpack import InitrdReader, Limits, unpack
from tests.support.initrds import (
    SEED,
    TIMESTAMP_S,
    described,
    library_tree,
    listed,
    odd_tree,
    packed,
    settled,
)
from tests.support.tools import require_tool
from tests.support.tree import Tree

TOOLS = {Codec.GZIP: "gzip", Codec.XZ: "xz", Codec.ZSTD: "zstd", Codec.LZO: "lzop"}


@pytest.fixture(scope="module")
def closure(tmp_path_factory: pytest.TempPathFactory) -> FileClosure:
    """A tree of several frames, with hard links from the first file to the last."""
    folder = tmp_path_factory.mktemp("library")
    builder = library_tree(folder, 40)
    tree = Tree(folder)
    os.link(tree.host(tree.file("/usr/lib/0000-a", b"linked")), tree.host("/usr/lib/zzz"))
    builder.add("/usr/lib/0000-a", SEED)
    builder.add("/usr/lib/zzz", SEED)
    builder.add_link("/usr/lib/link", "zzz", SEED)
    builder.add_content("/init", b"#!/bin/sh\n", SEED, mode=0o755)
    return settled(builder.build())


def files(closure: FileClosure) -> list[str]:
    return sorted(entry.path for entry in closure)


def test_the_tree_takes_several_frames(closure: FileClosure) -> None:
    assert packed(closure)[1].frames > 3


@pytest.mark.parametrize("codec", list(TOOLS))
def test_the_codecs_tool_and_cpio_read_the_whole(codec: Codec, closure: FileClosure) -> None:
    data, _ = packed(closure, codec=codec, level=0)
    argv = [str(require_tool(TOOLS[codec])), "-dc"]
    # lzop warns (2) of files in a row, which it reads.
    done = subprocess.run(argv, input=data, check=False, capture_output=True)
    assert done.returncode in ((0, 2) if codec is Codec.LZO else (0,))
    plain = done.stdout
    argv = [str(require_tool("cpio")), "-t", "--quiet"]
    names = subprocess.run(argv, input=plain, check=True, capture_output=True).stdout
    assert sorted("/" + name for name in names.decode().splitlines()) == files(closure)


def test_cpio_reads_the_whole_without_compression(closure: FileClosure) -> None:
    data, _ = packed(closure, codec=Codec.NONE)
    argv = [str(require_tool("cpio")), "-t", "--quiet"]
    names = subprocess.run(argv, input=data, check=True, capture_output=True).stdout
    assert sorted("/" + name for name in names.decode().splitlines()) == files(closure)


@pytest.mark.parametrize("codec", list(Codec))
def test_we_read_the_whole(codec: Codec, closure: FileClosure) -> None:
    assert sorted(listed(packed(closure, codec=codec)[0])) == files(closure)


def paths(frame: Frame) -> set[str]:
    return {entry.path for entry in frame.entries}


def test_directories_links_and_made_files_come_first(closure: FileClosure) -> None:
    others = {entry.path for entry in closure if entry.kind is not Kind.FILE}
    assert paths(plan_frames(closure)[0]) == others | {"/init"}


def test_what_is_named_comes_first_with_its_hard_links(closure: FileClosure) -> None:
    before = paths(plan_frames(closure)[0])
    frames = plan_frames(closure, first={"/usr/lib/0030", "/usr/lib/zzz"})
    assert paths(frames[0]) - before == {"/usr/lib/0030", "/usr/lib/zzz", "/usr/lib/0000-a"}


def test_large_made_files_are_apart_from_the_first(tmp_path: Path) -> None:
    builder = library_tree(tmp_path, 3)
    builder.add_content("/record", b"record" * 20_000, SEED)
    builder.add_content("/small", b"small", SEED)
    frames = plan_frames(builder.build())
    assert "/small" in paths(frames[0])
    assert paths(frames[1]) == {"/record"}


def test_what_is_named_comes_last_of_all(closure: FileClosure) -> None:
    data, _ = packed(closure, last={"/init"})
    assert [member.path for member in unpack(io.BytesIO(data))][-1] == "/init"
    assert sorted(listed(data)) == files(closure)


def test_what_comes_last_changes_no_frame_between(closure: FileClosure) -> None:
    assert plan_frames(closure, last={"/init"})[1:-1] == plan_frames(closure)[1:-1]


def test_each_frame_ends_where_an_entry_ends(closure: FileClosure) -> None:
    data, told = packed(closure)
    reader = InitrdReader(io.BytesIO(data))
    described(reader)
    assert len(reader.segments) == told.frames
    assert all(segment.unpacked_bytes % 4 == 0 for segment in reader.segments)


@pytest.mark.parametrize("jobs", [1, 3, 4])
def test_threads_do_not_change_the_result(jobs: int, closure: FileClosure) -> None:
    assert packed(closure, jobs=jobs)[0] == packed(closure, jobs=2)[0]


def test_what_is_told_is_true(closure: FileClosure) -> None:
    import hashlib

    data, told = packed(closure)
    reader = InitrdReader(io.BytesIO(data))
    entries = sum(1 for _ in reader)
    assert (told.size_bytes, told.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert told.unpacked_bytes == sum(segment.unpacked_bytes for segment in reader.segments)
    assert told.entries == entries == len(closure)


def test_hard_links_share_one_frame_and_one_number(closure: FileClosure) -> None:
    linked = [
        m for m in unpack(io.BytesIO(packed(closure)[0])) if m.links > 1 and not m.mode & 0o40000
    ]
    assert {m.path for m in linked} == {"/usr/lib/0000-a", "/usr/lib/zzz"}
    assert len({m.inode for m in linked}) == 1


def test_inodes_are_one_of_a_kind_over_all_frames(closure: FileClosure) -> None:
    numbers = [m.inode for m in unpack(io.BytesIO(packed(closure)[0]))]
    # Two entries are one file.
    assert len(numbers) - len(set(numbers)) == 1


def test_a_change_moves_few_frames(closure: FileClosure) -> None:
    def frames(of: FileClosure) -> set[tuple[tuple[str, ...], int]]:
        plan = plan_frames(of)
        return {(tuple(e.path for e in frame.entries), frame.first_inode) for frame in plan}

    fewer = FileClosure({p: e for p, e in closure.entries.items() if p != "/usr/lib/0030"})
    assert len(frames(closure) - frames(fewer)) <= 2


def test_odd_trees_come_back(tmp_path: Path) -> None:
    closure = odd_tree(tmp_path).build()
    assert sorted(listed(packed(closure)[0])) == files(closure)


def test_building_later_changes_nothing(closure: FileClosure) -> None:
    later = 4_000_000_000
    assert packed(closure, timestamp_s=later)[0] == packed(closure, timestamp_s=later + 9)[0]


def test_progress_ends_at_the_whole(closure: FileClosure) -> None:
    calls: list[tuple[int, int]] = []
    write_initrd(
        closure,
        io.BytesIO(),
        codec=Codec.LZO,
        level=1,
        timestamp_s=0,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1] > 0


def test_a_full_disk_is_an_output_error(closure: FileClosure) -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_initrd(closure, Full(), codec=Codec.ZSTD, level=1, timestamp_s=0)


def test_an_unreadable_source_is_an_input_error(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    builder = tree.builder()
    builder.add(tree.file("/gone", b"x"), SEED)
    closure = builder.build()
    tree.host("/gone").unlink()
    with pytest.raises(InputError, match="gone"):
        packed(closure)


# --- the cache


def test_a_second_build_takes_all_frames_from_the_cache(
    closure: FileClosure, tmp_path: Path
) -> None:
    first, told = packed(closure, cache=tmp_path)
    again, told_again = packed(closure, cache=tmp_path, timestamp_s=TIMESTAMP_S)
    assert (told.frames_from_cache, told_again.frames_from_cache) == (0, told.frames)
    assert again == first == packed(closure)[0]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "root")
    builder = library_tree(tmp_path / "root", 30)
    packed(settled(builder.build()), cache=tmp_path / "cache")
    tree.file("/usr/lib/0007", b"changed")
    os.utime(tree.host("/usr/lib/0007"), (1, 1))
    renewed = library_tree(tmp_path / "root", 0)
    for number in range(30):
        renewed.add(f"/usr/lib/{number:04}", SEED)
    data, told = packed(settled(renewed.build()), cache=tmp_path / "cache")
    assert 0 < told.frames_from_cache < told.frames
    assert data == packed(renewed.build())[0]


@pytest.mark.parametrize("other", [{"level": 2}, {"codec": Codec.GZIP}], ids=["level", "codec"])
def test_other_settings_take_no_frame_from_the_cache(
    other: dict[str, int], closure: FileClosure, tmp_path: Path
) -> None:
    packed(closure, cache=tmp_path)
    assert packed(closure, cache=tmp_path, **other)[1].frames_from_cache == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "place",
    [3, HEAD_BYTES - 2, HEAD_BYTES, HEAD_BYTES + 7, HEAD_BYTES + 300],
    ids=["mark", "digest", "high byte of size", "low byte of size", "data"],
)
def test_a_damaged_cache_entry_is_made_anew(
    place: int, closure: FileClosure, tmp_path: Path
) -> None:
    first, told = packed(closure, cache=tmp_path)
    damaged = max((tmp_path / "frames").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(damaged.read_bytes())
    data[place] ^= 1
    damaged.write_bytes(data)
    again, told_again = packed(closure, cache=tmp_path)
    assert (again, told_again.unpacked_bytes) == (first, told.unpacked_bytes)
    assert told_again.frames_from_cache == told.frames - 1
    assert packed(closure, cache=tmp_path)[1].frames_from_cache == told.frames


def test_a_cut_cache_entry_is_made_anew(closure: FileClosure, tmp_path: Path) -> None:
    first, _ = packed(closure, cache=tmp_path)
    for entry in (tmp_path / "frames").iterdir():
        os.truncate(entry, 100)
    again, told = packed(closure, cache=tmp_path)
    assert (again, told.frames_from_cache) == (first, 0)


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    closure: FileClosure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "frames").write_bytes(b"not a folder")
    assert packed(closure, cache=tmp_path)[0] == packed(closure)[0]
    assert "cannot" in caplog.text


# --- reading what is damaged


def test_the_early_archive_is_read_too(closure: FileClosure) -> None:
    early, _ = packed(FileClosure({"/init": closure.entries["/init"]}), codec=Codec.NONE)
    data, _ = packed(closure, early=early + bytes(512 - len(early) % 512))
    assert [member.path for member in unpack(io.BytesIO(data))].count("/init") == 2


def test_a_damaged_frame_is_named(closure: FileClosure) -> None:
    data, _ = packed(closure)
    reader = InitrdReader(io.BytesIO(data))
    described(reader)
    third = reader.segments[2]
    damaged = bytearray(data)
    damaged[third.offset + third.size_bytes // 2] ^= 0x10
    with pytest.raises(InputError, match=rf"zstd frame at byte {third.offset}\b"):
        listed(bytes(damaged))


def test_an_initrd_that_lost_its_last_frame_is_truncated(closure: FileClosure) -> None:
    data, _ = packed(closure)
    reader = InitrdReader(io.BytesIO(data))
    described(reader)
    with pytest.raises(InputError, match="no trailer"):
        listed(data[: reader.segments[-1].offset])


def test_junk_behind_an_initrd_is_named(closure: FileClosure) -> None:
    data, _ = packed(closure)
    with pytest.raises(InputError, match=rf"at byte {len(data)}: neither"):
        listed(data + b"junk")


def test_zeros_behind_an_initrd_are_padding(closure: FileClosure) -> None:
    data, _ = packed(closure)
    assert listed(data + bytes(1000)) == listed(data)


def test_an_empty_file_is_no_initrd() -> None:
    with pytest.raises(InputError, match="empty"):
        listed(b"")


def test_more_than_the_limit_is_refused(closure: FileClosure) -> None:
    data, _ = packed(closure)
    with pytest.raises(InputError, match="unpacks to more than 1000000 bytes"):
        described(unpack(io.BytesIO(data), limits=Limits(unpacked_bytes=1_000_000)))


def test_more_entries_than_the_limit_are_refused(closure: FileClosure) -> None:
    data, _ = packed(closure)
    with pytest.raises(InputError, match="more than 10 entries"):
        described(unpack(io.BytesIO(data), limits=Limits(entries=10)))


def test_more_parts_than_the_limit_are_refused(closure: FileClosure) -> None:
    data, _ = packed(closure)
    with pytest.raises(InputError, match="more than 3 parts"):
        described(unpack(io.BytesIO(data * 4), limits=Limits(segments=3)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    builder = Tree(tmp_path_factory.mktemp("small")).builder()
    builder.add_content("/a", b"content", SEED)
    builder.add_link("/link", "a", SEED)
    return packed(builder.build())[0]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_changed_initrd_is_an_initrd_or_an_input_error(small: bytes, data: st.DataObject) -> None:
    changed = bytearray(small)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        listed(bytes(changed))
    except InputError as error:
        assert error.message


def test_the_plain_archive_is_what_read_cpio_reads(closure: FileClosure) -> None:
    data, _ = packed(closure, codec=Codec.NONE)
    assert described(read_cpio(io.BytesIO(data))) == listed(data)
