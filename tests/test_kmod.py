"""Which modules are chosen, why, in which order; and what is said when one lacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from initramfs.closure import Because
from initramfs.errors import InputError, MissingDependency, UsageError
from initramfs.kmod import Chosen, ModuleTree, Wanted, chain_of, resolve_modules
from initramfs.modinfo import Modinfo
from initramfs.modsettings import SoftSetting
from initramfs.rootfs import Root
from tests.support.modules import COMPRESSORS, VERSION, Ko, module, write_dep, write_tree

SEED = Because("for the test")


def _tree(root: Path) -> ModuleTree:
    return ModuleTree(Root(root), VERSION)


def _resolve(
    root: Path, *names: str, omit: Iterable[str] = (), named: bool = False
) -> tuple[Chosen, ...]:
    wanted = [Wanted(name, SEED, is_named=named) for name in names]
    return resolve_modules(_tree(root), wanted, omit=frozenset(omit))


def _names(chosen: Iterable[Chosen]) -> list[str]:
    return [choice.module.name for choice in chosen]


CHAIN = (
    Ko("kernel/md/raid456.ko", depends=("async-tx", "md_mod")),
    Ko("kernel/crypto/async-tx.ko", depends=("xor",)),
    Ko("kernel/crypto/xor.ko"),
    Ko("kernel/md/md_mod.ko"),
    Ko("kernel/md/other.ko"),
)


def test_dependencies_come_first(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    assert _names(_resolve(tmp_path, "raid456")) == ["xor", "async_tx", "md_mod", "raid456"]


def test_every_module_knows_who_asked_for_it(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    chosen = {choice.module.name: choice for choice in _resolve(tmp_path, "raid456")}

    assert chosen["raid456"].because == SEED
    path = f"/lib/modules/{VERSION}/kernel/crypto/async-tx.ko"
    assert chosen["xor"].because == Because("needed by the module", path)
    assert chain_of(chosen.values(), "xor") == ("xor", "async_tx", "raid456")


def test_the_folder_of_the_image_is_in_the_reasons(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    chosen = resolve_modules(_tree(tmp_path), [Wanted("async_tx", SEED)], folder="/x")

    assert chosen[0].because.by == "/x/kernel/crypto/async-tx.ko"


def test_direct_dependencies_are_told(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    assert _resolve(tmp_path, "raid456")[-1].depends == ("async_tx", "md_mod")


@pytest.mark.parametrize("name", ["async-tx", "async_tx"])
def test_names_may_have_dashes(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    assert _names(_resolve(tmp_path, name)) == ["xor", "async_tx"]


@pytest.mark.parametrize("suffix", COMPRESSORS, ids=lambda suffix: suffix or "plain")
def test_modules_are_uncompressed_in_the_image(suffix: str, tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN, suffix=suffix)

    module = _resolve(tmp_path, "raid456")[-1].module

    assert module.relative == "kernel/md/raid456.ko"
    assert module.path == f"/lib/modules/{VERSION}/kernel/md/raid456.ko{suffix}"
    assert module.is_compressed is bool(suffix)
    assert _tree(tmp_path).content(module)[:4] == b"\x7fELF"


@pytest.mark.parametrize("indexed", [False, True], ids=["bare", "indexed"])
def test_compressed_modules_are_read_by_many_hands(indexed: bool, tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN, suffix=".xz")
    if indexed:
        lines: dict[str, list[str]] = {ko.path + ".xz": [] for ko in CHAIN}
        lines[CHAIN[1].path + ".xz"] = [CHAIN[2].path + ".xz"]
        write_dep(top, lines)
    tree = _tree(tmp_path)

    chosen = resolve_modules(tree, [Wanted("raid456", SEED)], jobs=4)

    assert _names(chosen) == ["xor", "async_tx", "md_mod", "raid456"]
    expected = module(CHAIN[0])
    assert [tree.content(chosen[-1].module) for _ in range(2)] == [expected, expected]


def test_a_tree_of_merged_usr_without_a_lib_link_is_found(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN, folder="usr/lib/modules")

    assert _resolve(tmp_path, "xor")[0].module.path.startswith("/usr/lib/modules/")


def test_links_are_followed_within_the_root(tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN)
    (tmp_path / "elsewhere").mkdir()
    (top / "kernel/crypto/xor.ko").rename(tmp_path / "elsewhere/xor.ko")
    (top / "kernel/crypto/xor.ko").symlink_to("/elsewhere/xor.ko")

    module = _resolve(tmp_path, "xor")[0].module

    assert (module.path, module.relative) == ("/elsewhere/xor.ko", "kernel/crypto/xor.ko")


def test_built_in_counts_as_present(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN[:1], builtin=["kernel/a/async-tx.ko", "kernel/md/md-mod.ko"])

    assert _names(_resolve(tmp_path, "raid456", "md-mod")) == ["raid456"]


def test_soft_dependencies_come_along_in_their_order(tmp_path: Path) -> None:
    kos = (
        Ko("kernel/a.ko", softdeps=("pre: b crypto-c post: d nobody",)),
        Ko("kernel/b.ko"),
        Ko("kernel/c-fast.ko", aliases=("crypto-c",)),
        Ko("kernel/c-slow.ko", aliases=("crypto-c",)),
        Ko("kernel/d.ko"),
    )
    write_tree(tmp_path, kos)

    assert _names(_resolve(tmp_path, "a")) == ["b", "c_fast", "c_slow", "a", "d"]


def test_weak_dependencies_come_along(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko", weakdeps=("b",)), Ko("kernel/b.ko")])

    assert set(_names(_resolve(tmp_path, "a"))) == {"a", "b"}


@pytest.mark.parametrize("first", ["a", "b", "c"])
def test_a_circle_of_soft_dependencies_keeps_the_hard_order(first: str, tmp_path: Path) -> None:
    kos = (
        Ko("kernel/a.ko", depends=("b",)),
        Ko("kernel/b.ko", softdeps=("pre: a c",)),
        Ko("kernel/c.ko", softdeps=("pre: b",)),
    )
    write_tree(tmp_path, kos)

    names = _names(_resolve(tmp_path, first, "a", "c"))

    assert sorted(names) == ["a", "b", "c"]
    assert names.index("b") < names.index("a")


def test_what_run_time_asks_for_comes_along(tmp_path: Path) -> None:
    # cryptsetup open fails without ecb, and on older kernels nothing names it.
    kos = (
        Ko("kernel/md/dm-crypt.ko"),
        Ko("kernel/crypto/xts.ko", aliases=("crypto-xts",)),
        Ko("kernel/crypto/ecb.ko", aliases=("crypto-ecb",)),
    )
    write_tree(tmp_path, kos)

    chosen = {choice.module.name: choice for choice in _resolve(tmp_path, "dm_crypt")}

    assert set(chosen) == {"dm_crypt", "xts", "ecb"}
    assert chosen["xts"].because.what == "ciphers of LUKS volumes, for the module"


def test_what_a_built_in_one_asks_for_comes_along(tmp_path: Path) -> None:
    kos = (Ko("kernel/crypto/xts.ko", aliases=("crypto-xts",)), Ko("kernel/c.ko"))
    info = ["dm_crypt.softdep=pre: c"]
    write_tree(tmp_path, kos, builtin=["kernel/md/dm-crypt.ko"], builtin_info=info)

    chosen = _resolve(tmp_path, "dm-crypt")

    assert _names(chosen) == ["c", "xts"]
    assert str(chosen[1].because) == "ciphers of LUKS volumes, for the built-in module dm_crypt"


def test_an_alias_may_be_wanted(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko", aliases=("fs-thing",))])

    assert _names(_resolve(tmp_path, "fs-thing")) == ["a"]


def test_an_alias_of_a_built_in_one_may_be_wanted(tmp_path: Path) -> None:
    info = ["ext4.alias=fs-ext4"]
    write_tree(tmp_path, CHAIN, builtin=["kernel/fs/ext4.ko"], builtin_info=info)

    assert _resolve(tmp_path, "fs-ext4") == ()


def test_modules_dep_adds_what_modinfo_does_not_know(tmp_path: Path) -> None:
    # A module built without the symbol table of those that it uses has no "depends".
    top = write_tree(tmp_path, [Ko("kernel/a.ko"), Ko("kernel/b.ko"), Ko("kernel/c.ko")])
    write_dep(
        top,
        {
            "kernel/a.ko": ["kernel/b.ko", "kernel/c.ko"],
            "kernel/b.ko": ["kernel/c.ko"],
            "kernel/c.ko": [],
        },
    )

    chosen = _resolve(tmp_path, "a")

    assert _names(chosen) == ["c", "b", "a"]
    assert chosen[-1].needed_by is None


def test_absolute_paths_of_old_modules_dep_are_understood(tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN[2:3])
    write_dep(top, {f"/lib/modules/{VERSION}/kernel/crypto/xor.ko": []})

    assert _resolve(tmp_path, "xor")[0].module.relative == "kernel/crypto/xor.ko"


def test_an_update_is_preferred(tmp_path: Path) -> None:
    write_tree(tmp_path, [*CHAIN, Ko("updates/dkms/xor.ko")])

    assert _resolve(tmp_path, "xor")[0].module.relative == "updates/dkms/xor.ko"


@pytest.mark.parametrize(
    "line", ["search built-in extra updates", "override xor * weak", "override * ^6.1 weak"]
)
def test_the_configuration_of_depmod_decides(line: str, tmp_path: Path) -> None:
    kos = [Ko("extra/xor.ko"), Ko("kernel/xor.ko"), Ko("updates/xor.ko"), Ko("weak/xor.ko")]
    write_tree(tmp_path, kos)
    (tmp_path / "etc/depmod.d").mkdir(parents=True)
    (tmp_path / "etc/depmod.d/x.conf").write_text(f"# x\n{line}\n")

    expected = "kernel/xor.ko" if line.startswith("search") else "weak/xor.ko"
    assert _resolve(tmp_path, "xor")[0].module.relative == expected


def test_modules_of_the_sources_are_not_modules_of_the_kernel(tmp_path: Path) -> None:
    write_tree(tmp_path, [*CHAIN, Ko("build/drivers/stray.ko")])

    assert "stray" not in _tree(tmp_path).modules


# What lacks


def test_a_missing_dependency_names_the_chain(tmp_path: Path) -> None:
    kos = [Ko("kernel/dm-raid.ko", depends=("raid456",)), CHAIN[0], CHAIN[3]]
    write_tree(tmp_path, kos)

    with pytest.raises(MissingDependency) as caught:
        _resolve(tmp_path, "dm-raid")

    assert caught.value.message == (
        f"raid456 needs async_tx (its .modinfo), not found in /lib/modules/{VERSION} "
        f"of {tmp_path}: raid456 <- needed by dm_raid <- for the test"
    )
    assert caught.value.hint is not None


def test_a_file_that_is_gone_since_depmod_ran_names_the_chain(tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN)
    xor = "kernel/crypto/xor.ko"
    write_dep(top, {"kernel/crypto/async-tx.ko": [xor], xor: []})
    (top / xor).unlink()

    with pytest.raises(MissingDependency, match=r"async_tx needs xor \(modules.dep\), not found"):
        _resolve(tmp_path, "async_tx")


def test_a_wanted_file_that_is_gone_names_the_reason(tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN)
    write_dep(top, {"kernel/crypto/xor.ko": []})
    (top / "kernel/crypto/xor.ko").unlink()

    with pytest.raises(MissingDependency, match="xor is named by modules.dep.*for the test"):
        _resolve(tmp_path, "xor")


def test_everything_that_lacks_is_named_at_once(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko", depends=("x", "y")), Ko("kernel/b.ko", depends=("z",))])

    with pytest.raises(MissingDependency, match="(?s)a needs x.*a needs y.*b needs z"):
        _resolve(tmp_path, "a", "b")


def test_an_unknown_module_is_answered_with_close_ones(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN, builtin=["kernel/md/raid10.ko"])

    with pytest.raises(MissingDependency, match=f"{VERSION} has no module raid1 ") as caught:
        _resolve(tmp_path, "raid1")

    assert caught.value.hint == "did you mean raid10, raid456?"


def test_a_kernel_without_modules_is_answered_with_those_that_have_some(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    with pytest.raises(MissingDependency, match="/lib/modules/5.10 is missing") as caught:
        ModuleTree(Root(tmp_path), "5.10")

    assert caught.value.hint == f"modules are there for: {VERSION}"


def test_an_empty_folder_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "lib/modules" / VERSION).mkdir(parents=True)

    with pytest.raises(MissingDependency, match="holds no kernel modules"):
        _tree(tmp_path)


def test_a_damaged_module_is_named(tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN)
    (top / "kernel/crypto/xor.ko").write_bytes(b"\x7fELF" + bytes(100))

    with pytest.raises(InputError, match="kernel/crypto/xor.ko: no kernel module, or a damaged"):
        _resolve(tmp_path, "raid456")


@pytest.mark.parametrize("suffix", [s for s in COMPRESSORS if s])
def test_a_damaged_compressed_module_is_named(suffix: str, tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN, suffix=suffix)
    file = top / f"kernel/crypto/xor.ko{suffix}"
    file.write_bytes(file.read_bytes()[:-12])

    with pytest.raises(InputError, match=f"xor.ko{suffix}: damaged"):
        _resolve(tmp_path, "xor")


def test_a_damaged_modules_dep_is_named(tmp_path: Path) -> None:
    top = write_tree(tmp_path, CHAIN)
    (top / "modules.dep").write_text("kernel/a.ko: \n\0\0\0\0")

    with pytest.raises(InputError, match=r"modules\.dep .* is damaged"):
        _tree(tmp_path)


def test_modules_that_need_each_other_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko", depends=("b",)), Ko("kernel/b.ko", depends=("a",))])

    with pytest.raises(InputError, match="need each other: a -> b -> a"):
        _resolve(tmp_path, "a")


# What is left out


def test_an_omitted_module_goes_with_all_that_only_it_brought(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    assert _names(_resolve(tmp_path, "raid456", "other", omit=["raid456"])) == ["other"]


def test_what_needs_an_omitted_module_goes_too(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    assert _names(_resolve(tmp_path, "raid456", "md-mod", omit=["xor"])) == ["md_mod"]


def test_an_omitted_soft_dependency_does_not_matter(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko", softdeps=("pre: b",)), Ko("kernel/b.ko")])

    assert _names(_resolve(tmp_path, "a", omit=["b"])) == ["a"]


def test_to_name_a_module_and_omit_what_it_needs_is_an_error(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN)

    with pytest.raises(UsageError, match="raid456 is asked for, but omitted is: xor"):
        _resolve(tmp_path, "raid456", omit=["xor"], named=True)


def test_to_omit_what_the_kernel_does_not_have_is_an_error(tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN, builtin=["kernel/md/raid10.ko"])

    with pytest.raises(UsageError, match=f"{VERSION} has no module raid1, which is") as caught:
        _resolve(tmp_path, "other", omit=["raid1"])

    assert caught.value.hint == "did you mean raid10, raid456?"


@pytest.mark.parametrize("name", ["async_tx", "async-tx", "raid10"])
def test_to_omit_what_the_kernel_has_is_none(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, CHAIN, builtin=["kernel/md/raid10.ko"])

    assert _names(_resolve(tmp_path, "other", omit=[name])) == ["other"]


@pytest.mark.parametrize(
    ("value", "order"),
    [("pre: b", ["b", "a"]), ("post: b", ["a", "b"]), ("pre: nobody b", ["b", "a"])],
)
def test_soft_dependencies_of_settings_count_as_its_own(
    value: str, order: list[str], tmp_path: Path
) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko"), Ko("kernel/b.ko")])
    setting = SoftSetting("a", Modinfo(softdeps=(value,)), "/etc/modprobe.d/x.conf")

    chosen = resolve_modules(_tree(tmp_path), [Wanted("a", SEED)], settings=[setting])

    assert _names(chosen) == order
    other = next(choice for choice in chosen if choice.module.name == "b")
    words = "dependency, by /etc/modprobe.d/x.conf, of the module"
    assert other.because == Because(words, f"/lib/modules/{VERSION}/kernel/a.ko")


def test_settings_for_other_modules_bring_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/a.ko"), Ko("kernel/b.ko")])
    setting = SoftSetting("c*", Modinfo(softdeps=("pre: b",)), "/etc/modprobe.d/x.conf")

    chosen = resolve_modules(_tree(tmp_path), [Wanted("a", SEED)], settings=[setting])

    assert _names(chosen) == ["a"]


def test_settings_count_for_built_in_modules_too(tmp_path: Path) -> None:
    write_tree(tmp_path, [Ko("kernel/b.ko")], builtin=["kernel/a.ko"])
    setting = SoftSetting("a", Modinfo(weakdeps=("b",)), "/etc/modprobe.d/x.conf")

    chosen = resolve_modules(_tree(tmp_path), [Wanted("a", SEED)], settings=[setting])

    assert _names(chosen) == ["b"]
