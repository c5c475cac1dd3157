"""``mindi inspect``, ``why`` and ``diff``, on images alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.closure import Because, ClosureBuilder, FileClosure
from initramfs.codec import Codec
from initramfs.cpio import TRAILER, header
from initramfs.errors import InputError
from mindi.diff import diff
from mindi.image import open_image
from mindi.inspect import Group, group_of, inspect
from mindi.isolayout import KERNEL_PATH
from mindi.why import NotInImage, why
from restore.words import shown_text, size_words
from tests.support.initrds import (
    SEED,
    TIMESTAMP_S,
    flip,
    image_file,
    iso_file,
    packed,
    recorded,
    written_iso,
)
from tests.support.tree import Tree

pytestmark = pytest.mark.slow

MODULES = "/usr/lib/modules/6.1.0-1-amd64/kernel"


def builder_of(tree: Tree) -> ClosureBuilder:
    """Return an image of a few things that need each other."""
    tree.link("/lib", "usr/lib")
    tree.link("/sbin", "usr/sbin")
    tree.library("/usr/lib/libdevmapper.so.1.02.1")
    tree.link("/usr/lib/libdm.so", "libdevmapper.so.1.02.1")
    tree.program("/usr/sbin/lvm", "libdevmapper.so.1.02.1")
    builder = tree.builder()
    builder.add("/sbin/lvm", Because("storage tool"))
    builder.add("/usr/lib/libdm.so", Because("asked for"))
    builder.add_link("/usr/sbin/vgs", "lvm", Because("applet of", "/usr/sbin/lvm"))
    builder.add(tree.file(f"{MODULES}/nvme.ko", b"m" * 5000), SEED)
    builder.add(tree.file(f"{MODULES}/dm-mod.ko", b"m" * 300), SEED)
    builder.add_content("/usr/sbin/twin", b"a program", SEED)
    builder.add_content(f"{MODULES}/twin.ko", b"a module", SEED)
    builder.add(tree.file("/usr/lib/firmware/blob.bin", b"f" * 200), SEED)
    builder.add(tree.file("/usr/lib/python3.11/os.pyc", b"p" * 100), SEED)
    return builder


@pytest.fixture
def closure(tmp_path: Path) -> FileClosure:
    return builder_of(Tree(tmp_path / "root")).build()


@pytest.fixture
def image(closure: FileClosure, tmp_path: Path) -> Path:
    return image_file(tmp_path / "image", closure)


# --- inspect


def test_a_summary_has_the_facts(image: Path, closure: FileClosure) -> None:
    found = inspect(image).to_json()
    assert found["kernel_version"] == "6.1.0-1-amd64"
    assert found["tools"] == [
        {"name": "lvm", "path": "/usr/sbin/lvm", "version_argv": ["lvm", "version"]}
    ]
    assert found["tools_absent"] == [{"name": "nvme", "package": "nvme-cli"}]
    assert found["firmware_absent"] == [{"name": "lost.bin", "module": "e1000"}]
    assert found["entries"] == len(recorded(closure))
    assert found["verified"] is None
    json.dumps(found)


def test_sizes_are_by_group(image: Path) -> None:
    sizes = {size.group: (size.files, size.size_bytes) for size in inspect(image).groups}
    assert sizes[Group.MODULES] == (3, 5308)
    assert sizes[Group.FIRMWARE] == (1, 200)


def test_the_biggest_come_first(image: Path) -> None:
    biggest = inspect(image).biggest
    assert biggest[0] == (f"{MODULES}/nvme.ko", 5000)
    assert [size for _, size in biggest] == sorted((s for _, s in biggest), reverse=True)


@pytest.mark.parametrize(
    "words", ["6.1.0-1-amd64", "nvme-cli", "lost.bin (e1000)", "modules", "/usr/sbin/lvm"]
)
def test_the_text_tells_it(words: str, image: Path) -> None:
    assert words in inspect(image).to_text()


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/lib/modules/6.1/a.ko", Group.MODULES),
        ("/usr/lib/firmware/x", Group.FIRMWARE),
        ("/usr/lib/python3.11/lib-dynload/_a.so", Group.PYTHON),
        ("/opt/venv/site-packages/lzo.so", Group.PYTHON),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", Group.LIBRARIES),
        ("/usr/sbin/lvm", Group.PROGRAMS),
        ("/init", Group.OTHER),
    ],
)
def test_groups(path: str, group: Group) -> None:
    assert group_of(path) is group


def test_verifying_reads_all(image: Path, closure: FileClosure) -> None:
    verified = inspect(image, verify=True).verified
    assert verified is not None
    assert verified.entries == len(recorded(closure))


def test_verifying_an_iso_reads_its_initrd_and_all_files(
    image: Path, closure: FileClosure, tmp_path: Path
) -> None:
    whole = inspect(image, verify=True).verified
    assert whole is not None
    found = inspect(written_iso(tmp_path / "iso", closure), verify=True)
    assert found.verified is not None
    # Its record tells of the medium too.
    unpacked_bytes = found.verified.unpacked_bytes
    assert unpacked_bytes > whole.unpacked_bytes
    assert found.verified == replace(whole, files=18, unpacked_bytes=unpacked_bytes)
    assert "18 files of the medium have their SHA-256" in found.to_text()


def test_verifying_an_iso_finds_a_flipped_byte_outside_the_initrd(
    closure: FileClosure, tmp_path: Path
) -> None:
    iso = written_iso(tmp_path / "iso", closure)
    flip(iso, open_image(iso).files[KERNEL_PATH].offset + 1000)
    inspect(iso)
    with pytest.raises(InputError, match="/boot/vmlinuz .* is damaged"):
        inspect(iso, verify=True)


def test_the_early_archive_is_told_and_verified(closure: FileClosure, tmp_path: Path) -> None:
    name = b"kernel/x86/microcode/GenuineIntel.bin"
    early = header(name, mode=0o100644, size_bytes=4) + b"code" + header(TRAILER)
    image = tmp_path / "image"
    image.write_bytes(packed(recorded(closure), early=early + bytes(-len(early) % 512))[0])
    found = inspect(image, verify=True)
    assert found.microcode == (("/kernel/x86/microcode/GenuineIntel.bin", 4),)


def test_verifying_finds_damage_that_the_summary_passes_over(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[-120] ^= 1
    image.write_bytes(data)
    inspect(image)
    with pytest.raises(InputError, match="frame at byte"):
        inspect(image, verify=True)


@pytest.mark.parametrize("change", ["added", "removed", "size", "mode"])
def test_verifying_finds_what_is_not_as_recorded(
    change: str, closure: FileClosure, tmp_path: Path
) -> None:
    entries = dict(recorded(closure).entries)
    blob = entries["/usr/lib/firmware/blob.bin"]
    if change == "added":
        entries["/zzz"] = replace(blob, path="/zzz")
    elif change == "removed":
        del entries[blob.path]
    elif change == "size":
        entries[blob.path] = replace(blob, source=None, identity=None, content=b"x")
    else:
        entries[blob.path] = replace(blob, mode=0o100777)
    image = tmp_path / "image"
    image.write_bytes(packed(FileClosure(entries))[0])
    with pytest.raises(InputError, match=r"blob.bin|zzz"):
        inspect(image, verify=True)


# --- why


def paths(image: Path, asked: str) -> list[str]:
    return [answer.path for answer in why(image, asked).answers]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/usr/sbin/lvm", ["/usr/sbin/lvm"]),
        ("/sbin/lvm", ["/usr/sbin/lvm"]),
        ("/sbin/../sbin/lvm", ["/usr/sbin/lvm"]),
        ("/usr/sbin/vgs", ["/usr/sbin/vgs", "/usr/sbin/lvm"]),
        ("lvm", ["/usr/sbin/lvm"]),
        ("sbin/lvm", ["/usr/sbin/lvm"]),
        ("libdevmapper.so.1.02.1", ["/usr/lib/libdevmapper.so.1.02.1"]),
        ("nvme", [f"{MODULES}/nvme.ko"]),
        ("dm_mod", [f"{MODULES}/dm-mod.ko"]),
        ("twin", [f"{MODULES}/twin.ko", "/usr/sbin/twin"]),
    ],
)
def test_a_question_finds_its_path(asked: str, found: list[str], image: Path) -> None:
    assert paths(image, asked) == found


def test_the_chain_goes_back_to_a_seed(image: Path) -> None:
    [answer] = why(image, "libdevmapper.so.1.02.1").answers
    words = [str(reason) for reason in answer.chain]
    assert "/usr/sbin/lvm" in words[0]
    assert answer.chain[-1].by is None
    assert words[-1] == "storage tool"


def test_all_reasons_are_told(image: Path) -> None:
    [answer] = why(image, "libdevmapper.so.1.02.1").answers
    assert "asked for" in [str(reason) for reason in answer.because]
    assert "also:" in why(image, "libdevmapper.so.1.02.1").to_text()


def test_the_json_of_why_has_its_keys(image: Path) -> None:
    answers = json.loads(json.dumps(why(image, "vgs").to_json()))["answers"]
    assert answers[0]["target"] == "lvm"
    assert answers[0]["because"] == [{"what": "applet of", "by": "/usr/sbin/lvm"}]
    assert answers[0]["chain"][-1] == {"what": "storage tool", "by": None}


def test_what_is_not_in_is_an_error_with_what_is_close(image: Path) -> None:
    with pytest.raises(NotInImage, match="lvn is not in") as raised:
        why(image, "lvn")
    assert "lvm" in str(raised.value.hint)
    assert raised.value.exit_code == 1


def test_an_absolute_path_that_is_not_in_means_no_other(image: Path) -> None:
    with pytest.raises(NotInImage):
        why(image, "/nowhere/lvm")


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    builder = Tree(tmp_path / "root").builder()
    builder.add_link("/a", "b", SEED)
    builder.add_link("/b", "a", SEED)
    assert paths(image_file(tmp_path / "image", builder.build()), "/a")[0] == "/a"


# --- why, of the medium


@pytest.fixture
def iso(closure: FileClosure, tmp_path: Path) -> Path:
    return written_iso(tmp_path / "iso", closure)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/boot/vmlinuz", ["iso:/boot/vmlinuz"]),
        ("iso:/boot/vmlinuz", ["iso:/boot/vmlinuz"]),
        ("initrd.img", ["iso:/boot/initrd.img"]),
        ("iso:isolinux.bin", ["iso:/isolinux/isolinux.bin"]),
        ("/efi.img", ["iso:/efi.img"]),
        (
            "/EFI",
            [f"iso:/EFI/BOOT/{name}" for name in ("BOOTX64.EFI", "grubx64.efi", "mmx64.efi")],
        ),
        ("/usr/sbin/lvm", ["/usr/sbin/lvm"]),
    ],
)
def test_a_question_finds_what_is_on_the_medium(asked: str, found: list[str], iso: Path) -> None:
    assert paths(iso, asked) == found


@pytest.mark.parametrize("asked", ["iso:/usr/sbin/lvm", "iso:lvm", "/boot/vmlinuzz", "/vmlinuz"])
def test_what_is_not_on_the_medium_is_an_error(asked: str, iso: Path) -> None:
    with pytest.raises(NotInImage, match=f"{asked} is not in"):
        why(iso, asked)


def test_what_is_close_on_the_medium_is_told(iso: Path) -> None:
    with pytest.raises(NotInImage) as raised:
        why(iso, "vmlinus")
    assert "vmlinuz" in str(raised.value.hint)


def test_all_that_is_on_the_medium_says_where_it_is_from(iso: Path) -> None:
    """Every file, and those that were taken from somewhere are what is there."""
    image = open_image(iso)
    answers = {answer.path.removeprefix("iso:"): answer for answer in why(iso, "iso:/").answers}
    assert set(answers) == set(image.files)
    taken = {path: answer.source for path, answer in answers.items() if answer.source}
    assert taken.pop("/boot/initrd.img") == "the test"
    assert len(taken) == 11
    isolinux = taken.pop("/isolinux/isolinux.bin")  # has a table of its own in it
    assert isolinux is not None
    assert Path(isolinux).name == "isolinux.bin"
    for path, source in taken.items():
        assert source is not None
        assert b"".join(image.chunks(image.files[path])) == Path(source).read_bytes(), path


def test_all_that_is_on_the_medium_has_a_reason_of_its_own(iso: Path) -> None:
    image = open_image(iso)
    for answer in why(iso, "iso:/").answers:
        assert answer.chain[-1].by is None, answer
        assert "does not say" not in answer.chain[-1].what, answer
        for reason in (*answer.because, *answer.chain):
            assert reason.by is None or reason.by.removeprefix("iso:") in image.files, answer


def test_the_chain_of_the_kernel_goes_back_to_the_firmware(iso: Path) -> None:
    [answer] = why(iso, "/boot/vmlinuz").answers
    assert [reason.by for reason in answer.chain] == [
        "iso:/isolinux/isolinux.cfg",
        "iso:/isolinux/isolinux.bin",
        None,
    ]
    assert str(answer.because[1]) == "started by iso:/boot/grub/grub.cfg"


def test_the_words_and_the_json_have_the_source(iso: Path) -> None:
    found = why(iso, "BOOTX64.EFI")
    source = str(found.answers[0].source)
    assert source.endswith("/usr/lib/shim/shimx64.efi.signed")
    assert f"    from {source}\n" in found.to_text()
    [answer] = json.loads(json.dumps(found.to_json()))["answers"]
    assert (answer["source"], answer["mode"]) == (source, "100444")
    assert answer["because"] == [
        {"what": "shim, for Secure Boot, copied into", "by": "iso:/efi.img"}
    ]


def test_a_medium_that_its_record_does_not_know_is_told_of(image: Path, tmp_path: Path) -> None:
    other = iso_file(tmp_path / "iso", image, tmp_path / "tree")
    [answer] = why(other, "/boot/vmlinuz").answers
    assert (answer.source, answer.size_bytes) == (None, 6)
    assert "does not say why" in str(answer.chain[0])


# --- diff


def test_an_image_equals_itself(image: Path) -> None:
    found = diff(image, image)
    assert found.equal
    assert found.to_text() == "equal\n"


def test_other_frames_of_the_same_tree_are_equal(
    image: Path, closure: FileClosure, tmp_path: Path
) -> None:
    assert diff(image, image_file(tmp_path / "other", closure, codec=Codec.GZIP)).equal


def test_only_the_date_is_still_equal(image: Path, closure: FileClosure, tmp_path: Path) -> None:
    (tmp_path / "later").write_bytes(packed(recorded(closure, created_s=5))[0])
    found = diff(image, tmp_path / "later")
    assert found.equal
    assert [fact.name for fact in found.facts] == ["created_s"]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another image: one file added, removed, of other content, mode, type and target each."""
    tree = Tree(tmp_path / "other-root")
    builder = builder_of(tree)
    builder.add(tree.file("/added", b"added"), SEED)
    builder.add_content("/etc/made", b"2", SEED)
    return image_file(tmp_path / "other", builder.build())


def test_added_and_removed_paths_are_told(image: Path, other: Path) -> None:
    changes = {change.path: change.what for change in diff(image, other).changes}
    assert changes == {"/added": "added", "/etc": "added", "/etc/made": "added"}
    assert {c.what for c in diff(other, image).changes} == {"removed"}


def test_the_size_change_is_counted(image: Path, other: Path) -> None:
    assert diff(image, other).size_change_bytes == 6
    assert diff(other, image).to_text().endswith("different (-6 bytes)\n")


@pytest.mark.parametrize(
    ("what", "path"),
    [("content", "/file"), ("mode", "/folder"), ("target", "/link"), ("type", "/kind")],
)
def test_a_change_is_named(what: str, path: str, tmp_path: Path) -> None:
    images = []
    for number in (0, 1):
        builder = Tree(tmp_path / f"root{number}").builder()
        builder.add_content("/file", b"x%d" % number, SEED)
        builder.add_directory("/folder", SEED, mode=(0o755, 0o700)[number])
        builder.add_link("/link", f"to-{number}", SEED)
        if number:
            builder.add_link("/kind", "file", SEED)
        else:
            builder.add_content("/kind", b"", SEED)
        images.append(image_file(tmp_path / f"image{number}", builder.build()))
    changes = {change.path: change.what for change in diff(*images).changes}
    assert what in changes[path].split(", ")


def test_hard_links_have_the_content_of_their_file(tmp_path: Path) -> None:
    images = []
    for number in (0, 1):
        tree = Tree(tmp_path / f"root{number}")
        builder = tree.builder()
        builder.add(tree.file("/one", b"content"), SEED)
        if number:
            tree.file("/two", b"content")
        else:
            tree.host("/two").hardlink_to(tree.host("/one"))
        builder.add("/two", SEED)
        images.append(image_file(tmp_path / f"image{number}", builder.build()))
    assert diff(*images).equal


def test_files_on_two_isos_are_compared(image: Path, tmp_path: Path) -> None:
    isos = [iso_file(tmp_path / f"iso{n}", image, tmp_path / f"tree{n}") for n in (0, 1)]
    assert diff(*isos).equal
    isos[1].write_bytes(isos[1].read_bytes().replace(b"kernel\0", b"kernal\0"))
    assert [change.path for change in diff(*isos).changes] == ["iso:/boot/vmlinuz"]


def test_two_isos_of_one_input_at_two_times_are_equal(closure: FileClosure, tmp_path: Path) -> None:
    one, other = (
        written_iso(tmp_path / f"iso{n}", closure, created_s=TIMESTAMP_S + n * 100_000)
        for n in (0, 1)
    )
    found = diff(one, other)
    assert (found.changes, found.equal) == ((), True)
    assert one.read_bytes() != other.read_bytes()


def test_another_menu_is_a_difference(closure: FileClosure, tmp_path: Path) -> None:
    one = written_iso(tmp_path / "one", closure)
    other = written_iso(tmp_path / "other", closure, words=("debug",), created_s=TIMESTAMP_S + 90)
    changes = [change.path for change in diff(one, other).changes]
    assert changes == ["iso:/boot/grub/grub.cfg", "iso:/isolinux/isolinux.cfg"]


@pytest.mark.parametrize("path", ["/efi.img", "/isolinux/isolinux.bin", "/EFI/BOOT/BOOTX64.EFI"])
def test_a_flipped_byte_in_a_loader_is_a_difference(
    path: str, closure: FileClosure, tmp_path: Path
) -> None:
    one, other = (written_iso(tmp_path / name, closure) for name in ("one", "other"))
    flip(other, open_image(other).files[path].offset + 20_000)
    assert [change.path for change in diff(one, other).changes] == [f"iso:{path}"]


def test_an_iso_equals_its_initrd(image: Path, tmp_path: Path) -> None:
    assert diff(image, iso_file(tmp_path / "iso", image, tmp_path / "tree")).equal


def test_the_json_of_diff_has_its_keys(image: Path, other: Path) -> None:
    found = json.loads(json.dumps(diff(image, other).to_json()))
    assert found["equal"] is False
    assert found["changes"][0]["path"] == "/added"
    assert found["changes"][0]["one"] is None
    assert found["changes"][0]["other"]["mode"] == "100644"


# --- words


def test_a_hostile_name_does_not_reach_the_terminal() -> None:
    assert shown_text("a\x1b[2Jb\udcff\n") == "a\\x1b[2Jb\\xff\\x0a"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (5 * 10**9, "5.0 GB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert size_words(size) == words
