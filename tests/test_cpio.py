"""initramfs/cpio.py against GNU cpio and BusyBox, and against damage."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initramfs.closure import Because, Entry, FileClosure, Identity, Kind
from initramfs.cpio import read_cpio, write_cpio
from initramfs.errors import InputError
from tests.support.initrds import SEED, TIMESTAMP_S, described, odd_tree
from tests.support.tools import require_tool
from tests.support.tree import Tree

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="making device nodes needs root")


def archive(closure: FileClosure, **options: int) -> bytes:
    out = io.BytesIO()
    write_cpio(closure, out, timestamp_s=TIMESTAMP_S, **options)
    return out.getvalue()


def gnu_cpio(data: bytes, folder: Path) -> None:
    argv = [str(require_tool("cpio")), "-idm", "--no-absolute-filenames", "--quiet"]
    subprocess.run(argv, input=data, cwd=folder, check=True, capture_output=True)


def busybox_cpio(data: bytes, folder: Path) -> None:
    argv = [str(require_tool("busybox")), "cpio", "-idm"]
    subprocess.run(argv, input=data, cwd=folder, check=True, capture_output=True)


Extractor = Callable[[bytes, Path], None]
extractors = pytest.mark.parametrize("extract", [gnu_cpio, busybox_cpio], ids=["gnu", "busybox"])


@pytest.fixture
def closure(tmp_path: Path) -> FileClosure:
    return odd_tree(tmp_path / "root").build()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "extracted"
    folder.mkdir()
    return folder


def seen(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what is below ``folder``: path, mode, content or target."""
    found: dict[str, tuple[int, bytes]] = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(where, name)
            mode = path.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            found["/" + str(path.relative_to(folder))] = (mode, content)
    return found


def expected(closure: FileClosure) -> dict[str, tuple[int, bytes]]:
    def content(entry: Entry) -> bytes:
        if entry.target is not None:
            return os.fsencode(entry.target)
        return entry.content or (entry.source.read_bytes() if entry.source else b"")

    return {entry.path: (entry.mode, content(entry)) for entry in closure}


@extractors
def test_extracts_to_the_same_tree(extract: Extractor, closure: FileClosure, target: Path) -> None:
    extract(archive(closure), target)
    assert seen(target) == expected(closure)


@extractors
def test_hard_links_stay_hard_links(extract: Extractor, closure: FileClosure, target: Path) -> None:
    extract(archive(closure), target)
    assert (target / "linked/one").samefile(target / "linked/one-more")
    assert not (target / "linked/one").samefile(target / "linked/two")


@is_root
@extractors
def test_devices_are_made(extract: Extractor, tmp_path: Path, target: Path) -> None:
    builder = Tree(tmp_path / "root").builder()
    builder.add_device("/dev/console", (5, 1), SEED, mode=stat.S_IFCHR | 0o600)
    builder.add_device("/dev/big", (259, 300), SEED, mode=stat.S_IFBLK | 0o660)
    extract(archive(builder.build()), target)
    found = {name: (target / "dev" / name).stat() for name in ("console", "big")}
    assert {name: (each.st_mode, each.st_rdev) for name, each in found.items()} == {
        "console": (stat.S_IFCHR | 0o600, os.makedev(5, 1)),
        "big": (stat.S_IFBLK | 0o660, os.makedev(259, 300)),
    }


def test_cpio_lists_the_names_in_order(closure: FileClosure) -> None:
    argv = [str(require_tool("cpio")), "-t", "--quiet", "--null"]
    listed = subprocess.run(argv, input=archive(closure), check=True, capture_output=True).stdout
    names = b"\0".join(os.fsencode(entry.path.lstrip("/")) for entry in closure)
    assert listed == names + b"\0"


def test_reads_its_own(closure: FileClosure) -> None:
    read = described(read_cpio(io.BytesIO(archive(closure))))
    assert list(read) == [entry.path for entry in closure]


@pytest.mark.parametrize("form", ["newc", "crc"])
def test_reads_what_gnu_cpio_writes(form: str, closure: FileClosure, tmp_path: Path) -> None:
    root = tmp_path / "root"
    names = b"\0".join(os.fsencode(path.lstrip("/")) for path in seen(root))
    argv = [str(require_tool("cpio")), "-o", "-0", "-H", form, "--quiet"]
    data = subprocess.run(argv, input=names, cwd=root, check=True, capture_output=True).stdout
    found: dict[str, tuple[int, bytes]] = {}
    for member in read_cpio(io.BytesIO(data)):
        content = os.fsencode(member.target) if member.target else b"".join(member.chunks)
        found[member.path] = (member.mode, content)
    # Of linked files only the last has the data.
    want = {path: what for path, what in seen(root).items() if not path.startswith("/linked/")}
    assert {path: what for path, what in found.items() if path in want} == want


def test_a_wrong_checksum_is_seen(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content that is summed")
    argv = [str(require_tool("cpio")), "-o", "-H", "crc", "--quiet"]
    data = subprocess.run(
        argv, input=b"file\n", cwd=tmp_path, check=True, capture_output=True
    ).stdout
    with pytest.raises(InputError, match="checksum"):
        list(read_cpio(io.BytesIO(data.replace(b"that", b"than"))))


def test_the_same_tree_gives_the_same_bytes_in_any_order(closure: FileClosure) -> None:
    out = io.BytesIO()
    write_cpio(reversed(list(closure)), out, timestamp_s=TIMESTAMP_S)
    assert out.getvalue() == archive(closure)


def test_nothing_is_dated_later_than_the_timestamp(closure: FileClosure) -> None:
    dates = {member.mtime_s for member in read_cpio(io.BytesIO(archive(closure)))}
    assert dates == {TIMESTAMP_S}


def test_a_file_keeps_its_earlier_date(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.file("/old", b"old")
    os.utime(tree.host("/old"), (5, 1234))
    builder = tree.builder()
    builder.add("/old", SEED)
    [member] = read_cpio(io.BytesIO(archive(builder.build())))
    assert member.mtime_s == 1234


def test_inodes_count_from_the_first(closure: FileClosure) -> None:
    numbers = {m.inode for m in read_cpio(io.BytesIO(archive(closure, first_inode=500)))}
    assert min(numbers) == 500


def test_a_file_that_grew_is_an_error(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    builder = tree.builder()
    builder.add(tree.file("/log", b"one"), SEED)
    closure = builder.build()
    tree.host("/log").write_bytes(b"one two")
    with pytest.raises(InputError, match=r"log changed while"):
        archive(closure)


def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    builder = tree.builder()
    builder.add(tree.file("/gone", b"one"), SEED)
    closure = builder.build()
    tree.host("/gone").unlink()
    with pytest.raises(InputError, match=r"cannot read .*gone: No such file"):
        archive(closure)


def test_a_file_of_4_gib_is_an_error(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 32)
    identity = Identity.of(large.stat())
    because = (Because("test"),)
    entry = Entry("/large", Kind.FILE, stat.S_IFREG, because, source=large, identity=identity)
    with pytest.raises(InputError, match="/?large: 4294967296 does not fit") as raised:
        write_cpio([entry], io.BytesIO(), timestamp_s=0)
    assert "4 GiB" in str(raised.value.hint)


def test_a_name_too_long_for_the_kernel_is_an_error(closure: FileClosure) -> None:
    long = replace(closure.entries["/init"], path="/x" * 2049)
    with pytest.raises(InputError, match="too long"):
        write_cpio([long], io.BytesIO(), timestamp_s=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    builder = Tree(tmp_path_factory.mktemp("small")).builder()
    builder.add_content("/a", b"content", SEED)
    builder.add_link("/link", "a", SEED)
    return archive(builder.build())


def test_every_cut_is_seen(small: bytes) -> None:
    for length in range(len(small) - 3):
        with pytest.raises(InputError):
            described(read_cpio(io.BytesIO(small[:length])))


@pytest.mark.parametrize(
    ("name_bytes", "size", "words"),
    [
        (b"00000000", b"00000000", "a name of 0 bytes"),
        (b"ffffffff", b"00000000", "a name of 4294967295 bytes"),
        (b"00000002", b"ffffffff", "before the end of a file"),
        (b"00000002", b"-0000001", "not a cpio header"),
        (b"00000002", b" 0x00001", "not a cpio header"),
    ],
    ids=["no-name", "huge-name", "huge-file", "sign", "blank"],
)
def test_a_hostile_header_is_an_error(name_bytes: bytes, size: bytes, words: str) -> None:
    fields = [b"00000001", b"000081a4", *[b"00000000"] * 4, size, *[b"00000000"] * 4, name_bytes]
    data = b"070701" + b"".join(fields) + b"00000000" + b"a\0"
    with pytest.raises(InputError, match=words):
        described(read_cpio(io.BytesIO(data + b"\0" * 100)))


def test_a_huge_link_is_an_error() -> None:
    fields = [b"00000001", b"0000a1ff", *[b"00000000"] * 4, b"7fffffff", *[b"00000000"] * 4]
    data = b"070701" + b"".join(fields) + b"00000002" + b"00000000" + b"a\0"
    with pytest.raises(InputError, match="a link of 2147483647 bytes"):
        described(read_cpio(io.BytesIO(data)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_archive_or_an_input_error(data: bytes) -> None:
    try:
        described(read_cpio(io.BytesIO(data)))
    except InputError as error:
        assert "byte" in error.message


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_archive_is_an_archive_or_an_input_error(
    small: bytes, data: st.DataObject
) -> None:
    changed = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    try:
        described(read_cpio(io.BytesIO(bytes(changed))))
    except InputError as error:
        assert "byte" in error.message


def test_a_path_never_leaves_the_tree() -> None:
    out = io.BytesIO()
    entry = Entry("/../../etc/passwd", Kind.FILE, stat.S_IFREG, (SEED,), content=b"x")
    write_cpio([entry], out, timestamp_s=0)
    [member] = read_cpio(io.BytesIO(out.getvalue()))
    assert member.path == "/etc/passwd"
