"""What a rescue environment holds, of a made-up root and of this machine's."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from initramfs.closure import Because, ClosureBuilder, FileClosure, Kind
from initramfs.errors import InputError, MissingDependency, UsageError
from initramfs.libraries import Libraries
from initramfs.rootfs import Root
from mindi.rescue import RescueReport, add_rescue_environment
from mindi.tools import BootFirmware
from restore.contract import LOG, SELFCHECK, Checklist
from tests.support.busybox import APPLETS, fake_busybox
from tests.support.tools import require_tool
from tests.support.tree import Tree

pytestmark = pytest.mark.slow

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmWBeyV6cMpjd0Uhz2mVwtNxH0b5zN3e8q4J5dT1lqc me@there\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Make the least root that a rescue environment can be made of."""
    tree = Tree(tmp_path / "root")
    tree.host(tree.file("/bin/busybox", mode=0o755)).write_bytes(fake_busybox())
    tree.program("/usr/bin/python3.11")
    tree.link("/usr/bin/python3", "python3.11")
    tree.file("/usr/lib/python3.11/os.py", "answer = 42\n")
    return tree


def build(tree: Tree, **options: Any) -> tuple[FileClosure, RescueReport]:
    builder = tree.builder()
    report = add_rescue_environment(builder, is_own=False, kernel_version="6.1.0-1", **options)
    return builder.build(), report


def content(closure: FileClosure, path: str) -> str:
    return (closure.entries[path].content or b"").decode()


@pytest.fixture(scope="module")
def own() -> tuple[FileClosure, RescueReport]:
    require_tool("busybox", package="busybox-static")
    root = Root(Path("/"))
    builder = ClosureBuilder(root, Libraries(root))
    report = add_rescue_environment(builder, is_own=True, kernel_version="6.1.0-1")
    return builder.build(), report


def test_this_machine_makes_a_whole_one(own: tuple[FileClosure, RescueReport]) -> None:
    closure, _ = own
    for path in ("/init", "/etc/mindi/rc", "/usr/bin/python3", SELFCHECK, LOG):
        assert path in closure


def test_links_lead_to_something(own: tuple[FileClosure, RescueReport], tmp_path: Path) -> None:
    closure, _ = own
    tree = Tree(tmp_path / "image")
    for entry in closure:
        if entry.kind is Kind.DIRECTORY:
            tree.directory(entry.path)
        elif entry.kind is Kind.SYMLINK:
            tree.link(entry.path, entry.target or "")
        else:
            tree.file(entry.path)
    root = tree.root()
    links = [entry.path for entry in closure if entry.kind is Kind.SYMLINK]
    # The kernel brings these up.
    born_later = {"/etc/mtab"}
    assert [path for path in links if not root.exists(path)] == sorted(born_later & set(links))


def test_every_tool_of_the_report_is_in_the_image(own: tuple[FileClosure, RescueReport]) -> None:
    closure, report = own
    assert [tool.name for tool in report.found if not _is_in(closure, tool.path)] == []


def _is_in(closure: FileClosure, path: str) -> bool:
    return path in closure or path.replace("/usr/", "/", 1) in closure


def test_a_tool_is_found_or_absent(own: tuple[FileClosure, RescueReport]) -> None:
    _, report = own
    assert not {tool.name for tool in report.found} & {tool.name for tool in report.absent}


def test_full_tools_are_no_applets(own: tuple[FileClosure, RescueReport]) -> None:
    closure, report = own
    assert closure.entries["/usr/bin/mount"].target is None
    assert "mount" in report.busybox.names


def test_two_builds_are_equal(own: tuple[FileClosure, RescueReport]) -> None:
    root = Root(Path("/"))
    builder = ClosureBuilder(root, Libraries(root))
    add_rescue_environment(builder, is_own=True, kernel_version="6.1.0-1")
    assert builder.build() == own[0]


def test_least_root_makes_one(tree: Tree) -> None:
    closure, report = build(tree)
    assert "/init" in closure
    assert closure.entries["/bin/sh"].target == "/bin/busybox"
    assert {"lvm", "mdadm", "sfdisk"} <= {tool.name for tool in report.absent}


def test_absent_tools_name_their_package(tree: Tree) -> None:
    _, report = build(tree)
    packages = {tool.name: tool.package for tool in report.absent}
    assert (packages["mkfs.ext4"], packages["sgdisk"]) == ("e2fsprogs", "gdisk")


def test_a_root_without_busybox_is_refused(tree: Tree) -> None:
    tree.host("/bin/busybox").unlink()
    with pytest.raises(MissingDependency, match="no busybox"):
        build(tree)


def test_a_root_without_python_is_refused(tree: Tree) -> None:
    tree.host("/usr/bin/python3").unlink()
    with pytest.raises(MissingDependency, match="no Python"):
        build(tree)


def test_a_tool_whose_library_lacks_is_refused_with_its_chain(tree: Tree) -> None:
    tree.program("/usr/sbin/lvm", "libdevmapper.so.1.02.1")
    with pytest.raises(MissingDependency, match=r"/usr/sbin/lvm .*libdevmapper\.so\.1\.02\.1"):
        build(tree)


@pytest.mark.parametrize("omitted", ["lvm", "lvm2"], ids=["tool", "package"])
def test_what_cannot_be_had_whole_can_be_left_out(omitted: str, tree: Tree) -> None:
    tree.program("/usr/sbin/lvm", "libdevmapper.so.1.02.1")
    closure, report = build(tree, omit_tools=(omitted,))
    assert "/usr/sbin/lvm" not in closure
    assert "lvm" not in {tool.name for tool in (*report.found, *report.absent)}


def test_to_leave_out_what_is_no_tool_is_refused(tree: Tree) -> None:
    with pytest.raises(UsageError, match="--omit-tool lvmm: .*did you mean lvm"):
        build(tree, omit_tools=("lvmm",))


def test_a_script_of_a_root_without_a_shell_gets_busyboxs(tree: Tree) -> None:
    tree.file("/usr/sbin/fsck.xfs", "#!/bin/sh\nexit 0\n", mode=0o755)
    closure, _ = build(tree)
    assert closure.entries["/bin/sh"].target == "/bin/busybox"


def test_what_was_asked_for_by_hand_stays(tree: Tree) -> None:
    tree.file("/etc/hosts", "10.0.0.1 backup\n")
    builder = tree.builder()
    builder.add("/etc/hosts", Because("asked for by the test"))
    add_rescue_environment(builder, is_own=False, kernel_version="6.1.0-1")
    assert builder.build().entries["/etc/hosts"].source == tree.host("/etc/hosts")


def test_modules_that_nothing_announces_are_listed_if_they_are_there(tree: Tree) -> None:
    closure, _ = build(tree, modules=("ext4", "loop", "dm_mod"), load=("softdog", "loop"))
    listed = content(closure, "/etc/mindi/modules").splitlines()
    assert [line for line in listed if not line.startswith("#")] == ["loop", "dm_mod", "softdog"]


def test_checklist_is_what_the_self_check_reads(tree: Tree, tmp_path: Path) -> None:
    tree.program("/usr/sbin/lvm")
    closure, _ = build(tree)
    place = tmp_path / "selfcheck.json"
    place.write_text(content(closure, SELFCHECK))
    checklist = Checklist.read(place)
    assert checklist.kernel == "6.1.0-1"
    assert checklist.path("lvm") == "/usr/sbin/lvm"
    assert "lzo" not in checklist.imports


@pytest.mark.parametrize(
    ("firmware", "platforms"),
    [
        (BootFirmware.BIOS, {"i386-pc"}),
        (BootFirmware.UEFI, {"x86_64-efi"}),
        (None, {"i386-pc", "x86_64-efi"}),
    ],
    ids=["bios", "uefi", "any"],
)
def test_boot_loaders_are_for_the_machine_s_firmware(
    firmware: BootFirmware | None, platforms: set[str], tree: Tree
) -> None:
    tree.program("/usr/lib/grub/i386-pc/grub-bios-setup")
    for platform in ("i386-pc", "x86_64-efi"):
        tree.file(f"/usr/lib/grub/{platform}/ext2.mod")
    closure, _ = build(tree, firmware=firmware)
    assert {path.split("/")[4] for path in closure.entries if path.endswith(".mod")} == platforms


@pytest.mark.parametrize(("option", "is_taken"), [("tpm2-device=auto", True), ("luks", False)])
def test_token_handlers_come_where_a_disk_is_unlocked_by_one(
    option: str, is_taken: bool, tree: Tree
) -> None:
    handler = "/usr/lib/x86_64-linux-gnu/cryptsetup/libcryptsetup-token-systemd-tpm2.so"
    tree.library("/usr/lib/x86_64-linux-gnu/libcryptsetup.so.12")
    tree.program("/usr/sbin/cryptsetup", "libcryptsetup.so.12")
    tree.library(handler)
    tree.file("/etc/crypttab", f"root UUID=1 none {option}\n")
    closure, _ = build(tree)
    assert (handler in closure) is is_taken


def test_udev_comes_without_the_rules_that_assemble(tree: Tree) -> None:
    tree.program("/usr/bin/udevadm")
    tree.link("/lib/systemd/systemd-udevd", "/usr/bin/udevadm")
    for name in ("60-block", "64-md-raid-assembly", "69-lvm", "80-drivers"):
        tree.file(f"/lib/udev/rules.d/{name}.rules")
    closure, _ = build(tree)
    rules = [path.rpartition("/")[2] for path in closure.entries if path.endswith(".rules")]
    assert rules == ["60-block.rules", "80-drivers.rules"]


def test_a_module_that_is_put_out_of_force_can_be_loaded_here(tree: Tree) -> None:
    tree.program("/usr/sbin/modprobe")
    path = tree.file("/etc/modprobe.d/cis.conf", "install xfs /bin/false\noptions md_mod a=1\n")
    closure, _ = build(tree)
    assert content(closure, path) == "options md_mod a=1\n"
    assert str(closure.entries[path].because[0]) == "settings of /usr/sbin/modprobe"


def own_rules(tree: Tree, rules: dict[str, str]) -> list[str]:
    """Return the names of the rules in an image of a system with ``rules`` of its own."""
    tree.program("/usr/bin/udevadm")
    tree.link("/lib/systemd/systemd-udevd", "/usr/bin/udevadm")
    for name in ("60-block", "70-joystick", "80-net-setup-link"):
        tree.file(f"/usr/lib/udev/rules.d/{name}.rules")
    for name, text in rules.items():
        tree.file(f"/etc/udev/rules.d/{name}.rules", text)
    closure, _ = build(tree)
    return [path for path in closure.entries if path.endswith(".rules") and "/etc/" in path]


@pytest.mark.parametrize("name", ["70-persistent-net", "60-block", "99-local"])
def test_rules_of_the_administrator_come_along(name: str, tree: Tree) -> None:
    text = '# mdadm is not for this\nSUBSYSTEM=="net", NAME="lan"\n'
    assert own_rules(tree, {name: text}) == [f"/etc/udev/rules.d/{name}.rules"]


@pytest.mark.parametrize("name", ["70-joystick", "69-lvm", "65-md-incremental", "64-lvm"])
def test_a_rule_that_is_left_out_is_so_in_etc_too(name: str, tree: Tree) -> None:
    assert own_rules(tree, {name: ""}) == []


@pytest.mark.parametrize(
    "text",
    [
        'ACTION=="add", RUN+="/sbin/mdadm --incremental $env{DEVNAME}"\n',
        'RUN{program}+="/usr/sbin/vgchange -aay"\n',
        'ACTION=="add", \\\n  IMPORT{program}="/usr/sbin/lvm pvscan --cache -aay"\n',
    ],
    ids=["mdadm", "vgchange", "lvm"],
)
def test_a_rule_that_assembles_stays_out_whatever_its_name(text: str, tree: Tree) -> None:
    assert own_rules(tree, {"99-local": text}) == []


def test_a_rule_that_is_put_out_of_force_stays_so(tree: Tree) -> None:
    tree.link("/etc/udev/rules.d/80-net-setup-link.rules", "/dev/null")
    assert own_rules(tree, {}) == []
    assert "/usr/lib/udev/rules.d/80-net-setup-link.rules" not in build(tree)[0]


def test_udevd_keeps_the_name_that_it_goes_by(tree: Tree) -> None:
    tree.program("/usr/bin/udevadm")
    tree.link("/lib/systemd/systemd-udevd", "/usr/bin/udevadm")
    closure, _ = build(tree)
    assert closure.entries["/lib/systemd/systemd-udevd"].target == "/usr/bin/udevadm"


def ssh(tree: Tree, tmp_path: Path, key: str) -> FileClosure:
    tree.program("/usr/sbin/sshd")
    tree.program("/usr/bin/ssh-keygen")
    place = tmp_path / "key.pub"
    place.write_text(key)
    return build(tree, ssh_key=place)[0]


def test_ssh_server_comes_with_a_key(tree: Tree, tmp_path: Path) -> None:
    closure = ssh(tree, tmp_path, KEY)
    keys = closure.entries["/root/.ssh/authorized_keys"]
    assert (keys.content, keys.mode & 0o777) == (KEY.encode(), 0o600)
    assert closure.entries["/root/.ssh"].mode & 0o777 == 0o700


def test_ssh_server_stays_out_without_a_key(tree: Tree) -> None:
    tree.program("/usr/sbin/sshd")
    closure, _ = build(tree)
    assert "/usr/sbin/sshd" not in closure


def test_a_private_key_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a private key"):
        ssh(tree, tmp_path, "-----BEGIN OPENSSH PRIVATE KEY-----\n")


def test_what_is_no_key_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no public ssh key"):
        ssh(tree, tmp_path, "hello\n")


@pytest.mark.parametrize(
    "options",
    [
        "no-pty",
        'command="echo hi",no-pty',
        'environment="A=say \\"b c\\" d",restrict',
        "\t",
    ],
)
def test_a_key_may_have_options(options: str, tree: Tree, tmp_path: Path) -> None:
    closure = ssh(tree, tmp_path, f"# mine\n{options} {KEY}")
    assert content(closure, "/root/.ssh/authorized_keys").endswith(KEY)


@pytest.mark.parametrize("before", ["# ", "#", 'command="echo ', "echo hi "])
def test_what_sshd_would_not_take_for_a_key_is_refused(
    before: str, tree: Tree, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="holds no public ssh key"):
        ssh(tree, tmp_path, f"{before}{KEY}")


def test_a_key_that_is_not_there_is_named(tree: Tree, tmp_path: Path) -> None:
    tree.program("/usr/sbin/sshd")
    with pytest.raises(InputError, match="cannot read the ssh key"):
        build(tree, ssh_key=tmp_path / "none.pub")


def test_a_key_without_a_server_names_the_package(tree: Tree, tmp_path: Path) -> None:
    place = tmp_path / "key.pub"
    place.write_text(KEY)
    with pytest.raises(MissingDependency, match="asks for an ssh server") as caught:
        build(tree, ssh_key=place)
    assert "openssh-server" in (caught.value.hint or "")


def test_keymap_comes_with_what_it_includes(tree: Tree) -> None:
    tree.program("/usr/bin/loadkeys")
    maps = "/usr/share/keymaps/i386"
    tree.file(f"{maps}/qwertz/de.kmap", 'include "qwertz-layout"\n')
    tree.file(f"{maps}/include/qwertz-layout.inc", 'include "linux-keys-bare"\n')
    tree.file(f"{maps}/include/linux-keys-bare.inc")
    tree.file(f"{maps}/azerty/fr.kmap")
    closure, _ = build(tree, keymap="de")
    names = [path.rpartition("/")[2] for path in closure.entries if maps in path]
    assert [name for name in names if "." in name] == [
        *("linux-keys-bare.inc", "qwertz-layout.inc", "de.kmap")
    ]
    assert f"loadkeys -q {maps}/qwertz/de.kmap" in content(closure, "/etc/mindi/rc")


def test_a_damaged_keymap_is_named(tree: Tree) -> None:
    tree.program("/usr/bin/loadkeys")
    data = bytearray(gzip.compress(b'include "other"\n' * 99, mtime=0))
    data[12] ^= 0xFF
    tree.host(tree.file("/usr/share/keymaps/de.kmap.gz")).write_bytes(data)
    with pytest.raises(InputError, match=r"^/usr/share/keymaps/de\.kmap\.gz in .*: damaged"):
        build(tree, keymap="de")


def test_links_among_keymaps_that_lead_back_are_not_followed_for_ever(tree: Tree) -> None:
    tree.program("/usr/bin/loadkeys")
    tree.file("/usr/share/keymaps/i386/de.kmap")
    for name in ("one", "two", "three"):
        tree.link(f"/usr/share/keymaps/i386/{name}", ".")
    with pytest.raises(UsageError, match="no keymap klingon"):
        build(tree, keymap="klingon")


def test_an_unknown_keymap_is_refused(tree: Tree) -> None:
    tree.program("/usr/bin/loadkeys")
    with pytest.raises(UsageError, match="no keymap klingon"):
        build(tree, keymap="klingon")


def test_a_keymap_without_its_tool_is_refused(tree: Tree) -> None:
    tree.file("/usr/share/keymaps/de.kmap")
    with pytest.raises(UsageError, match="needs loadkeys"):
        build(tree, keymap="de")


def test_the_machines_own_keymap_is_taken(tree: Tree) -> None:
    tree.program("/usr/bin/loadkeys")
    tree.file("/etc/vconsole.conf", 'KEYMAP="fr"\n')
    tree.file("/usr/lib/kbd/keymaps/xkb/fr.map")
    closure, _ = build(tree)
    assert "/usr/lib/kbd/keymaps/xkb/fr.map" in closure


def test_locale_of_a_directory(tree: Tree) -> None:
    tree.file("/usr/lib/locale/de_DE.utf8/LC_TIME")
    closure, _ = build(tree, locale="de_DE.UTF-8")
    assert "/usr/lib/locale/de_DE.utf8/LC_TIME" in closure
    assert "export LANG=de_DE.UTF-8\n" in content(closure, "/etc/profile")


def test_locale_of_the_archive(tree: Tree) -> None:
    tree.host(tree.file("/usr/lib/locale/locale-archive")).write_bytes(b"..\0de_DE.utf8\0..")
    closure, _ = build(tree, locale="de_DE.UTF-8")
    assert "/usr/lib/locale/locale-archive" in closure


def test_an_unknown_locale_is_refused(tree: Tree) -> None:
    with pytest.raises(UsageError, match=r"no locale tlh_QO\.UTF-8"):
        build(tree, locale="tlh_QO.UTF-8")


def test_a_clock_in_local_time_is_read_as_such(tree: Tree) -> None:
    tree.file("/etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n")
    closure, _ = build(tree)
    assert "hwclock --hctosys --localtime" in content(closure, "/etc/mindi/rc")


def test_host_name_is_given(tree: Tree) -> None:
    closure, _ = build(tree, host_name="web1")
    assert content(closure, "/etc/hostname") == "web1\n"


def test_nobody_logs_in_with_a_password(tree: Tree) -> None:
    closure, _ = build(tree)
    shadow = closure.entries["/etc/shadow"]
    assert (shadow.content or b"").startswith(b"root:*:")
    assert shadow.mode & 0o777 == 0o600


def test_checklist_is_json_of_plain_values(tree: Tree) -> None:
    closure, _ = build(tree)
    held = json.loads(content(closure, SELFCHECK))
    assert sorted(held) == ["imports", "kernel", "modprobe", "tools"]


@pytest.mark.parametrize(("applet", "is_named"), [("resize", True), ("reset", False)])
def test_help_names_resize_where_it_is(applet: str, is_named: bool, tree: Tree) -> None:
    tree.host("/bin/busybox").write_bytes(fake_busybox((*APPLETS, applet)))
    closure, _ = build(tree)
    text = content(closure, "/usr/sbin/mindi-help")
    assert ("resize tells" in text, "stty rows" in text) == (is_named, not is_named)


def test_mondorestore_is_a_command(tree: Tree) -> None:
    closure, _ = build(tree)
    text = content(closure, "/usr/sbin/mondorestore")
    assert text.endswith('\nexec /usr/bin/python3 -I -S -m restore.cli "$@"\n')
    assert closure.entries["/usr/sbin/mondorestore"].mode & 0o777 == 0o755
