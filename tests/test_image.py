"""mindi/image.py and mindi/record.py: images opened by what they hold, and their record."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from initramfs.closure import Because, FileClosure
from initramfs.codec import Codec
from initramfs.cpio import read_cpio
from initramfs.errors import InputError
from initramfs.unpack import InitrdReader
from mindi.image import Medium, open_image
from mindi.isolayout import INITRD_PATH
from mindi.record import RECORD_VERSION, ImageRecord, MediumFile
from restore.contract import IMAGE_RECORD
from tests.support.initrds import (
    SEED,
    flip,
    image_file,
    iso_file,
    library_tree,
    odd_tree,
    packed,
    recorded,
)
from tests.support.tree import Tree

pytestmark = pytest.mark.slow


@pytest.fixture
def closure(tmp_path: Path) -> FileClosure:
    return odd_tree(tmp_path / "root").build()


def record_json(closure: FileClosure) -> bytes:
    content = recorded(closure).entries[IMAGE_RECORD].content
    assert content is not None
    return content


@pytest.mark.parametrize("codec", list(Codec))
def test_an_initrd_of_any_codec_opens(codec: Codec, closure: FileClosure, tmp_path: Path) -> None:
    image = open_image(image_file(tmp_path / "image", closure, codec=codec))
    assert image.medium is Medium.INITRD
    assert image.record.kernel_version == "6.1.0-1-amd64"


def test_the_name_does_not_matter(closure: FileClosure, tmp_path: Path) -> None:
    assert open_image(image_file(tmp_path / "x.iso", closure)).medium is Medium.INITRD


def test_an_iso_opens(closure: FileClosure, tmp_path: Path) -> None:
    initrd = image_file(tmp_path / "initrd", closure)
    image = open_image(iso_file(tmp_path / "image", initrd, tmp_path / "iso"))
    assert image.medium is Medium.ISO
    assert set(image.files) == {INITRD_PATH, "/boot/vmlinuz", "/empty"}
    assert b"".join(image.chunks(image.initrd)) == initrd.read_bytes()


def test_the_members_of_an_iso_are_those_of_its_initrd(
    closure: FileClosure, tmp_path: Path
) -> None:
    initrd = image_file(tmp_path / "initrd", closure)
    iso = iso_file(tmp_path / "image", initrd, tmp_path / "iso")
    paths = [member.path for member in open_image(iso).members()]
    assert paths == [member.path for member in open_image(initrd).members()]


def test_the_record_is_in_the_first_frame(tmp_path: Path) -> None:
    data, _ = packed(recorded(library_tree(tmp_path, 30).build()))
    reader = InitrdReader(io.BytesIO(data))
    for member in reader:
        if member.path == IMAGE_RECORD:
            break
    assert reader.segments == []


def test_a_record_comes_back(closure: FileClosure) -> None:
    data = record_json(closure)
    assert ImageRecord.from_json(data).to_json() == data


def test_a_record_without_a_medium_is_read(closure: FileClosure) -> None:
    fields = json.loads(record_json(closure))
    assert fields.pop("medium") == {}
    assert ImageRecord.from_json(json.dumps(fields).encode()).medium == {}


def test_a_medium_comes_back(closure: FileClosure) -> None:
    medium = {
        "/boot/vmlinuz": MediumFile("there", (Because("started by", "/menu"), Because("so"))),
        "/menu": MediumFile(None, (Because("made"),)),
    }
    content = recorded(closure, medium=medium).entries[IMAGE_RECORD].content
    assert content is not None
    assert ImageRecord.from_json(content).medium == medium


def test_a_record_tells_of_every_path(closure: FileClosure) -> None:
    record = ImageRecord.from_json(record_json(closure))
    assert set(record.entries) == set(recorded(closure).entries)
    assert record.entries["/odd/link"].target == "../large"
    assert record.entries["/large"].because == closure.entries["/large"].because


def test_a_record_counts_libraries(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    builder = tree.builder()
    builder.add(tree.file("/lib/libc.so.6", b"c"), SEED)
    builder.add(tree.file("/lib/loadable.so", b"c"), SEED)
    builder.add(tree.file("/lib/so.conf", b"c"), SEED)
    builder.add_link("/lib/libd.so.1", "libc.so.6", SEED)
    assert ImageRecord.from_json(record_json(builder.build())).libraries == 2


def test_a_newer_record_is_refused(closure: FileClosure) -> None:
    fields = json.loads(record_json(closure)) | {"version": RECORD_VERSION + 1}
    with pytest.raises(InputError, match=f"version {RECORD_VERSION + 1}") as raised:
        ImageRecord.from_json(json.dumps(fields).encode())
    assert "newer" in str(raised.value.hint)


@pytest.mark.parametrize(
    "change",
    [
        {"level": "3"},
        {"level": -1},
        {"level": True},
        {"codec": "bzip2"},
        {"tools": [["lvm"]]},
        {"tools": ["lvm"]},
        {"modules": [1]},
        {"entries": []},
        {"entries": {"/a": [1, 2, [[3]]]}},
        {"entries": {"/a": 1}},
        {"version": None},
    ],
    ids=str,
)
def test_a_record_of_wrong_types_is_refused(
    change: dict[str, object], closure: FileClosure
) -> None:
    fields = json.loads(record_json(closure)) | change
    with pytest.raises(InputError, match="the image's record"):
        ImageRecord.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000], ids=repr)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        ImageRecord.from_json(data)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["version", "codec", "entries", "tools", "level"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner)
        ),
    )
)
def test_any_json_is_a_record_or_an_input_error(fields: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ImageRecord.from_json(json.dumps(fields).encode())


def test_a_foreign_initrd_is_refused(closure: FileClosure, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(packed(closure)[0])
    with pytest.raises(InputError, match="without /usr/share/mindi/image.json"):
        open_image(tmp_path / "image")


def test_a_foreign_iso_is_refused(closure: FileClosure, tmp_path: Path) -> None:
    iso = iso_file(tmp_path / "image", image_file(tmp_path / "initrd", closure), tmp_path / "iso")
    iso.write_bytes(iso.read_bytes().replace(b"initrd.img", b"initrd.old"))
    with pytest.raises(InputError, match="an ISO without /boot/initrd.img"):
        open_image(iso)


@pytest.mark.parametrize("size", [0, 100, 40_000])
def test_what_is_no_image_is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"x" * size)
    with pytest.raises(InputError, match="image"):
        open_image(tmp_path / "image")


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read .*nothing: No such file"):
        open_image(tmp_path / "nothing")


def test_a_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        open_image(tmp_path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_a_cut_iso_is_refused(part: float, tmp_path: Path) -> None:
    initrd = image_file(tmp_path / "initrd", library_tree(tmp_path / "root", 5).build())
    iso = iso_file(tmp_path / "image", initrd, tmp_path / "iso")
    data = iso.read_bytes()
    iso.write_bytes(data[: max(40_000, int(len(data) * part))])
    with pytest.raises(InputError, match="image"):
        open_image(iso)


def cut(initrd: Path, where: str) -> Path:
    """Cut an initrd off behind the frame that holds its record."""
    reader = InitrdReader(io.BytesIO(initrd.read_bytes()))
    for _ in reader:
        pass
    size = initrd.stat().st_size
    if len(reader.segments) == 1:  # plain, in one piece, of which the last padding may be missing
        places = {"last byte": size - 5, "last frame": size - 124, "second frame": size // 2}
    else:
        second, last = (segment.offset for segment in reader.segments[-2:])
        places = {"last byte": size - 1, "last frame": last, "second frame": second + 1000}
    os.truncate(initrd, places[where])
    return initrd


CUT = r"the initrd of .*(ends|trailer|truncated)"


@pytest.mark.parametrize("where", ["last byte", "last frame", "second frame"])
@pytest.mark.parametrize("codec", list(Codec))
def test_an_initrd_cut_behind_its_record_is_refused(
    codec: Codec, where: str, closure: FileClosure, tmp_path: Path
) -> None:
    """Its record is read from the front, and the rest was never looked at."""
    initrd = cut(image_file(tmp_path / "initrd", closure, codec=codec), where)
    with pytest.raises(InputError, match=CUT) as raised:
        open_image(initrd)
    assert "cut off" in str(raised.value.hint)


@pytest.mark.parametrize("where", ["last frame", "second frame"])
def test_an_iso_of_a_cut_initrd_is_refused(
    where: str, closure: FileClosure, tmp_path: Path
) -> None:
    initrd = cut(image_file(tmp_path / "initrd", closure), where)
    with pytest.raises(InputError, match=CUT):
        open_image(iso_file(tmp_path / "image", initrd, tmp_path / "iso"))


@pytest.mark.parametrize("codec", list(Codec))
def test_only_the_end_of_a_whole_initrd_is_looked_at(
    codec: Codec, closure: FileClosure, tmp_path: Path
) -> None:
    initrd = image_file(tmp_path / "initrd", closure, codec=codec)
    flip(initrd, -5000)
    open_image(initrd)


def test_an_initrd_with_more_behind_it_opens(closure: FileClosure, tmp_path: Path) -> None:
    """The kernel unpacks whatever archives follow each other."""
    initrd = image_file(tmp_path / "initrd", closure)
    more = packed(closure, codec=Codec.GZIP)[0]
    initrd.write_bytes(initrd.read_bytes() + more + bytes(4096))
    assert open_image(initrd).record.kernel_version == "6.1.0-1-amd64"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_changed_iso_is_an_image_or_an_input_error(
    iso_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = bytearray(iso_bytes)
    for _ in range(data.draw(st.integers(1, 8))):
        # Volume descriptors, path tables, directories.
        changed[data.draw(st.integers(16 * 2048, min(40 * 2048, len(changed)) - 1))] = data.draw(
            st.integers(0, 255)
        )
    path = tmp_path_factory.getbasetemp() / "changed.iso"
    path.write_bytes(changed)
    try:
        open_image(path)
    except InputError as error:
        assert "image" in error.message or "changed.iso" in error.message


@pytest.fixture(scope="module")
def iso_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("iso")
    builder = Tree(folder / "root").builder()
    builder.add_content("/init", b"x", SEED)
    initrd = image_file(folder / "initrd", builder.build())
    return iso_file(folder / "image", initrd, folder / "iso").read_bytes()


def test_the_record_itself_is_an_entry_like_others(closure: FileClosure, tmp_path: Path) -> None:
    data, _ = packed(recorded(closure), codec=Codec.NONE)
    found = [m for m in read_cpio(io.BytesIO(data)) if m.path == IMAGE_RECORD]
    assert [oct(member.mode) for member in found] == ["0o100644"]
