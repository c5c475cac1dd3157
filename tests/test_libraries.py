"""What files need, in made trees; tests/test_ldd.py asks the machine's own loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from initramfs.elf import ByteOrder
from initramfs.errors import InputError
from initramfs.libraries import Dependency, Libraries, Missing, Need
from tests.support.elf import (
    AARCH64,
    ET_REL,
    I386,
    S390,
    Elf,
    dlopen_note,
    foreign,
    library,
    program,
)
from tests.support.tree import LOADER, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def paths(libraries: Libraries, path: str, *, need: Need | None = None) -> list[str]:
    """Return the paths that ``path`` needs, in order; fail if something lacks."""
    answer = libraries.of(path)
    assert answer.missing == ()
    return [one.path for one in answer.found if need in (None, one.need)]


def test_interpreter_then_libraries_breadth_first(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so", "libb.so")
    tree.library("/lib/liba.so", "libdeep.so")
    tree.library("/lib/libb.so", "liba.so")
    tree.library("/usr/lib/libdeep.so")
    assert tree.libraries().of(main).found == (
        Dependency(LOADER, main, LOADER, need=Need.INTERPRETER),
        Dependency("liba.so", main, "/lib/liba.so"),
        Dependency("libb.so", main, "/lib/libb.so"),
        Dependency("libdeep.so", "/lib/liba.so", "/usr/lib/libdeep.so"),
    )


def test_links_are_left_to_the_reader(tree: Tree) -> None:
    main = tree.program("/usr/bin/main", "liba.so.1")
    tree.library("/usr/lib/liba.so.1.2")
    tree.link("/usr/lib/liba.so.1", "liba.so.1.2")
    tree.link("/lib", "usr/lib")
    assert paths(tree.libraries(), main)[1:] == ["/lib/liba.so.1"]


def test_dependency_is_by_the_canonical_path(tree: Tree) -> None:
    main = tree.program("/usr/bin/main", "liba.so.1")
    tree.file("/usr/lib/liba.so.1.2", library("liba.so.1", "libb.so"))
    tree.link("/usr/lib/liba.so.1", "liba.so.1.2")
    tree.library("/usr/lib/libb.so")
    assert tree.libraries().of(main).found[-1].by == "/usr/lib/liba.so.1.2"


@pytest.mark.parametrize(
    ("inherits", "tags"), [(True, {"rpath": "/opt"}), (False, {"runpath": "/opt"})]
)
def test_libraries_of_libraries_see_rpath_and_not_runpath(
    tree: Tree, inherits: bool, tags: dict[str, str]
) -> None:
    tree.loader()
    main = tree.file("/bin/main", replace(program("liba.so"), **tags), mode=0o755)
    tree.library("/opt/liba.so", "libb.so")
    tree.library("/opt/libb.so")
    answer = tree.libraries().of(main)
    assert (answer.missing == ()) is inherits
    assert ("/opt/libb.so" in [one.path for one in answer.found]) is inherits


def test_what_is_already_loaded_is_not_searched_again(tree: Tree) -> None:
    """A soname that only the first one's DT_RUNPATH finds serves all who come later."""
    tree.loader()
    main = tree.file(
        "/bin/main", replace(program("liba.so", "libb.so"), runpath="/opt"), mode=0o755
    )
    tree.library("/opt/liba.so")
    tree.library("/lib/libb.so", "liba.so")
    assert paths(tree.libraries(), main)[1:] == ["/opt/liba.so", "/lib/libb.so"]


def test_soname_serves_for_a_file_of_another_name(tree: Tree) -> None:
    main = tree.program("/bin/main", "libplain.so", "libb.so")
    tree.file("/lib/libplain.so", library("libreal.so.1"))
    tree.library("/lib/libb.so", "libreal.so.1")
    assert paths(tree.libraries(), main)[1:] == ["/lib/libplain.so", "/lib/libb.so"]


def test_second_link_to_a_loaded_library_is_needed_too(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so.1", "liba.so")
    tree.file("/lib/liba.so.1.0", Elf())
    tree.link("/lib/liba.so.1", "liba.so.1.0")
    tree.link("/lib/liba.so", "liba.so.1.0")
    assert paths(tree.libraries(), main)[1:] == ["/lib/liba.so.1", "/lib/liba.so"]


def test_libraries_that_need_each_other_end(tree: Tree) -> None:
    tree.library("/lib/liba.so", "libb.so")
    tree.library("/lib/libb.so", "liba.so")
    assert paths(tree.libraries(), "/lib/liba.so") == ["/lib/libb.so"]


def test_origin_of_a_library_found_through_a_link(tree: Tree) -> None:
    tree.loader()
    main = tree.file(
        "/opt/x/bin/main", replace(program("liba.so"), rpath="$ORIGIN/../lib"), mode=0o755
    )
    tree.file("/opt/x/lib/liba.so", replace(library("liba.so", "libb.so"), runpath="${ORIGIN}/b"))
    tree.library("/opt/x/lib/b/libb.so")
    assert paths(tree.libraries(), main)[1:] == [
        "/opt/x/bin/../lib/liba.so",
        "/opt/x/bin/../lib/b/libb.so",
    ]


def test_needed_name_with_a_slash_is_a_path(tree: Tree) -> None:
    tree.loader()
    main = tree.file("/opt/main", program("/srv/liba.so", "$ORIGIN/libb.so"), mode=0o755)
    tree.library("/srv/liba.so")
    tree.library("/opt/libb.so")
    assert paths(tree.libraries(), main)[1:] == ["/srv/liba.so", "/opt/libb.so"]


def test_path_relative_to_an_unknown_directory_is_missing(tree: Tree) -> None:
    main = tree.program("/bin/main", "./liba.so")
    tree.library("/liba.so")
    assert tree.libraries().of(main).missing == (Missing("./liba.so", main, ("./liba.so",)),)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(foreign(library("liba.so"), I386, bits=32), id="class"),
        pytest.param(foreign(library("liba.so"), AARCH64, bits=64), id="machine"),
        pytest.param(
            foreign(library("liba.so"), 62, bits=64, order=ByteOrder.BIG), id="byte-order"
        ),
        pytest.param(Elf(kind=ET_REL), id="relocatable"),
    ],
)
def test_candidate_for_another_machine_is_passed_over(tree: Tree, wrong: Elf) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.file("/lib/liba.so", wrong)
    tree.library("/usr/lib/liba.so")
    assert paths(tree.libraries(), main)[1:] == ["/usr/lib/liba.so"]


@pytest.mark.parametrize(
    ("machine", "bits", "order", "folder"),
    [
        pytest.param(I386, 32, ByteOrder.LITTLE, "/usr/lib/i386-linux-gnu", id="i386"),
        pytest.param(S390, 64, ByteOrder.BIG, "/lib/s390x-linux-gnu", id="s390x"),
        pytest.param(AARCH64, 64, ByteOrder.LITTLE, "/usr/lib64", id="aarch64"),
    ],
)
def test_programs_of_other_machines(
    tree: Tree, machine: int, bits: int, order: ByteOrder, folder: str
) -> None:
    loader = tree.file("/lib/ld.so.1", foreign(Elf(), machine, bits=bits, order=order))
    main = tree.file(
        "/bin/main",
        foreign(program("liba.so", interpreter=loader), machine, bits=bits, order=order),
        mode=0o755,
    )
    tree.library("/lib/x86_64-linux-gnu/liba.so")
    tree.file(f"{folder}/liba.so", foreign(library("liba.so"), machine, bits=bits, order=order))
    assert paths(tree.libraries(), main) == [loader, f"{folder}/liba.so"]


def test_both_machines_of_a_multiarch_tree(tree: Tree) -> None:
    loader = tree.file("/lib/ld-linux.so.2", foreign(Elf(), I386, bits=32))
    old = tree.file("/bin/old", foreign(program("liba.so", interpreter=loader), I386, bits=32))
    new = tree.program("/bin/new", "liba.so")
    tree.file("/etc/ld.so.conf", "/opt/lib\n")
    tree.library("/opt/lib/liba.so")
    tree.file("/usr/lib/liba.so", foreign(library("liba.so"), I386, bits=32))
    libraries = tree.libraries()
    assert paths(libraries, old)[1:] == ["/usr/lib/liba.so"]
    assert paths(libraries, new)[1:] == ["/opt/lib/liba.so"]


def test_missing_library_names_who_needs_it_and_where_it_was_sought(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.library("/lib/liba.so", "libgone.so.3")
    tree.directory("/usr/lib")
    missing = tree.libraries().of(main).missing
    assert missing == (Missing("libgone.so.3", "/lib/liba.so", ("/lib64", "/lib", "/usr/lib")),)


def test_missing_interpreter(tree: Tree) -> None:
    main = tree.file("/bin/main", program())
    assert tree.libraries().of(main).missing == (Missing(LOADER, main, ("/lib64",)),)


def test_loop_of_links_and_a_directory_are_no_libraries(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so", "libb.so")
    tree.link("/lib/liba.so", "liba.so")
    tree.directory("/lib/libb.so")
    tree.library("/usr/lib/liba.so")
    tree.library("/usr/lib/libb.so")
    assert paths(tree.libraries(), main)[1:] == ["/usr/lib/liba.so", "/usr/lib/libb.so"]


def test_truncated_library_is_an_error_that_names_it(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.file("/lib/liba.so", bytes(library("liba.so"))[:-20])
    with pytest.raises(InputError, match=r"/lib/liba\.so is a damaged ELF file"):
        tree.libraries().of(main)


def test_library_that_is_no_elf_file_is_an_error_that_names_it(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.file("/lib/liba.so", "INPUT(libreal.so)")
    with pytest.raises(InputError, match=r"/lib/liba\.so .* is no ELF file"):
        tree.libraries().of(main)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"plain text\n", id="text"),
        pytest.param(b"\x7fELF is how such files begin\n", id="looks-like-elf"),
        pytest.param(Elf(kind=ET_REL, needed=("liba.so",)), id="kernel-module"),
        pytest.param(Elf(kind=2, is_dynamic=False), id="static"),
        pytest.param(Elf(flags_1=0x08000000), id="static-pie"),
        pytest.param(Elf(needed=("libutil.c32",)), id="syslinux-module"),
    ],
)
def test_what_needs_nothing(tree: Tree, content: bytes | Elf) -> None:
    path = tree.file("/file", content, mode=0o755)
    assert paths(tree.libraries(), path) == []


def test_variants_for_other_processors_come_along(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.library("/lib/liba.so")
    tree.library("/lib/glibc-hwcaps/x86-64-v3/liba.so", "libextra.so")
    tree.library("/lib/libextra.so")
    tree.library("/lib/glibc-hwcaps/x86-64-v3/libother.so")
    tree.library("/lib/haswell/liba.so")
    found = tree.libraries().of(main).found[1:]
    assert [(one.path, one.need) for one in found] == [
        ("/lib/liba.so", Need.LINKED),
        ("/lib/glibc-hwcaps/x86-64-v3/liba.so", Need.VARIANT),
        ("/lib/haswell/liba.so", Need.VARIANT),
        ("/lib/libextra.so", Need.LINKED),
    ]


def test_variant_alone_is_not_enough(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.library("/lib/glibc-hwcaps/x86-64-v3/liba.so")
    assert [one.name for one in tree.libraries().of(main).missing] == ["liba.so"]


def test_musl_loader_is_its_own_c_library(tree: Tree) -> None:
    loader = tree.file("/lib/ld-musl-x86_64.so.1", library("libc.musl-x86_64.so.1"))
    tree.library("/usr/local/lib/libz.so.1", "libc.musl-x86_64.so.1")
    main = tree.file("/bin/main", program("libz.so.1", "libm.so", interpreter=loader))
    assert paths(tree.libraries(), main) == [loader, "/usr/local/lib/libz.so.1"]


def test_script_needs_its_interpreter_which_needs_more(tree: Tree) -> None:
    tree.file("/bin/sh", program())
    script = tree.file("/bin/script", "#!/bin/sh\n", mode=0o755)
    assert tree.libraries().of(script).found == (
        Dependency("/bin/sh", script, "/bin/sh", leaf=False, need=Need.INTERPRETER),
    )


def test_script_for_env_needs_the_program_too(tree: Tree) -> None:
    tree.file("/usr/bin/env", program())
    tree.file("/usr/bin/python3", program())
    script = tree.file("/bin/script", "#!/usr/bin/env -S python3 -I\n", mode=0o755)
    assert paths(tree.libraries(), script) == ["/usr/bin/env", "/usr/bin/python3"]


def test_script_whose_interpreter_is_missing(tree: Tree) -> None:
    script = tree.file("/bin/script", "#!/opt/bin/perl\n", mode=0o755)
    expected = Missing("/opt/bin/perl", script, ("/opt/bin",))
    assert tree.libraries().of(script).missing == (expected,)


def test_script_that_nobody_may_execute_is_data(tree: Tree) -> None:
    script = tree.file("/lib/functions", "#!/opt/bin/perl\n")
    assert tree.libraries().of(script).missing == ()


def noted(tree: Tree, *sonames: str, priority: str | None = None) -> str:
    tree.loader()
    notes = dlopen_note(*sonames, priority=priority)
    return tree.file("/bin/main", replace(program(), notes=notes), mode=0o755)


@pytest.mark.parametrize("priority", [None, "recommended", "required"])
def test_noted_library_comes_along_with_its_needs(tree: Tree, priority: str | None) -> None:
    main = noted(tree, "liba.so", priority=priority)
    tree.library("/lib/liba.so", "libb.so")
    tree.library("/lib/libb.so")
    found = tree.libraries().of(main).found[1:]
    assert found == (
        Dependency("liba.so", main, "/lib/liba.so", need=Need.DLOPENED),
        Dependency("libb.so", "/lib/liba.so", "/lib/libb.so"),
    )


def test_suggested_library_stays_out(tree: Tree) -> None:
    main = noted(tree, "liba.so", priority="suggested")
    tree.library("/lib/liba.so")
    assert paths(tree.libraries(), main) == [LOADER]


def test_first_alternative_that_is_there_comes_along(tree: Tree) -> None:
    main = noted(tree, "liba.so.3", "liba.so.2", "liba.so.1")
    tree.library("/lib/liba.so.2")
    tree.library("/lib/liba.so.1")
    assert paths(tree.libraries(), main)[1:] == ["/lib/liba.so.2"]


def test_alternative_that_lacks_a_need_of_its_own_is_passed_over(tree: Tree) -> None:
    main = noted(tree, "liba.so.2", "liba.so.1", priority="required")
    tree.library("/lib/liba.so.2", "libgone.so")
    tree.library("/lib/liba.so.1")
    assert paths(tree.libraries(), main)[1:] == ["/lib/liba.so.1"]


@pytest.mark.parametrize("priority", [None, "recommended"])
def test_noted_library_that_is_not_required_may_lack(tree: Tree, priority: str | None) -> None:
    main = noted(tree, "liba.so", priority=priority)
    tree.library("/lib/liba.so", "libgone.so")
    assert paths(tree.libraries(), main) == [LOADER]


def test_required_noted_library_may_not_lack(tree: Tree) -> None:
    main = noted(tree, "liba.so.2", "liba.so.1", priority="required")
    missing = tree.libraries().of(main).missing
    assert missing == (Missing("liba.so.2 or liba.so.1", main, ("/lib64",)),)


def test_need_that_a_required_noted_library_lacks_is_named(tree: Tree) -> None:
    main = noted(tree, "liba.so", priority="required")
    tree.library("/lib/liba.so", "libgone.so")
    missing = tree.libraries().of(main).missing
    assert [(one.name, one.by) for one in missing] == [("libgone.so", "/lib/liba.so")]


def test_noted_library_is_sought_by_the_rpath_of_who_asks(tree: Tree) -> None:
    tree.loader()
    elf = replace(program(), notes=dlopen_note("liba.so"), rpath="/opt")
    main = tree.file("/bin/main", elf, mode=0o755)
    tree.library("/opt/liba.so")
    assert paths(tree.libraries(), main)[1:] == ["/opt/liba.so"]


def test_note_of_a_library_counts_for_all_that_need_it(tree: Tree) -> None:
    main = tree.program("/bin/main", "liba.so")
    tree.file("/lib/liba.so", replace(library("liba.so"), notes=dlopen_note("libb.so")))
    tree.library("/lib/libb.so")
    assert paths(tree.libraries(), main, need=Need.DLOPENED) == ["/lib/libb.so"]


def test_answers_are_for_each_file_alone(tree: Tree) -> None:
    """What one process found by its DT_RPATH is not there for the next."""
    tree.loader()
    first = tree.file("/bin/first", replace(program("liba.so"), rpath="/opt"), mode=0o755)
    second = tree.program("/bin/second", "liba.so")
    tree.library("/opt/liba.so")
    libraries = tree.libraries()
    assert libraries.of(first).missing == ()
    assert [one.name for one in libraries.of(second).missing] == ["liba.so"]


def test_file_that_is_gone_is_an_error(tree: Tree) -> None:
    with pytest.raises(InputError, match="cannot read /bin/gone"):
        tree.libraries().of("/bin/gone")
