"""Makes in an unpacked root tree what maintainer scripts would have made, and is needed.

Nothing of the tree is executed. Every file is made only where its package is there.
"""

from __future__ import annotations

import os
from pathlib import Path

# What base-files, openssh-server and others put in place when they are configured.
_COPIES = {
    "usr/share/base-passwd/passwd.master": "etc/passwd",
    "usr/share/base-passwd/group.master": "etc/group",
    "usr/share/base-files/nsswitch.conf": "etc/nsswitch.conf",
    "usr/share/base-files/profile": "etc/profile",
    "usr/share/base-files/dot.profile": "root/.profile",
    "usr/share/base-files/dot.bashrc": "root/.bashrc",
    "usr/share/openssh/sshd_config": "etc/ssh/sshd_config",
}

# Links that update-alternatives(1) and dpkg-divert(1) make and that scripts rely on: the name, then
# what may stand for it.
_ALTERNATIVES = {
    "usr/bin/awk": ("usr/bin/gawk", "usr/bin/mawk"),
    "usr/bin/sh": ("usr/bin/dash", "usr/bin/bash"),
    "usr/bin/editor": ("bin/nano", "usr/bin/vim.tiny"),
    "usr/bin/nc": ("bin/nc.openbsd",),
    "usr/bin/pager": ("usr/bin/less",),
    "usr/bin/vi": ("usr/bin/vim.tiny",),
    "usr/bin/which": ("usr/bin/which.debianutils",),
    "usr/bin/mt": ("bin/mt-st", "bin/mt-gnu"),
    "usr/bin/rcp": ("usr/bin/scp",),
    "usr/sbin/rmt": ("usr/sbin/rmt-tar",),
}

# Users that daemons of the rescue environment change to (their packages' postinst).
_USERS = {
    "usr/sbin/sshd": "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin",
    "usr/sbin/rpcbind": "_rpc:x:101:65534::/run/rpcbind:/usr/sbin/nologin",
    "usr/sbin/rpc.statd": "statd:x:102:65534::/var/lib/nfs:/usr/sbin/nologin",
    "usr/lib/systemd/systemd-udevd": "messagebus:x:103:65534::/nonexistent:/usr/sbin/nologin",
}

# Groups that udev's rules give devices to (systemd's sysusers.d/basic.conf).
_GROUPS = ("input:x:101:", "kvm:x:102:", "render:x:103:", "sgx:x:104:")

_AUTHORITIES = "usr/share/ca-certificates"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def settle(tree: Path) -> None:
    """Complete an unpacked tree: users, name service, alternatives, certificates."""
    for source, target in _COPIES.items():
        if (tree / source).is_file() and not (tree / target).exists():
            (tree / target).parent.mkdir(parents=True, exist_ok=True)
            (tree / target).write_bytes((tree / source).read_bytes())
    for name, choices in _ALTERNATIVES.items():
        _link_alternative(tree, name, choices)
    _append(tree / "etc/passwd", [line for path, line in _USERS.items() if (tree / path).exists()])
    _append(tree / "etc/group", _GROUPS)
    _bundle_authorities(tree)
    if (tree / "etc").is_dir() and not os.path.lexists(tree / "etc/mtab"):
        (tree / "etc/mtab").symlink_to("../proc/self/mounts")


def _link_alternative(tree: Path, name: str, choices: tuple[str, ...]) -> None:
    if os.path.lexists(tree / name):
        return
    for choice in choices:
        if (tree / choice).exists():
            (tree / name).symlink_to(f"/{choice}")
            return


def _append(file: Path, lines: list[str] | tuple[str, ...]) -> None:
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8")
    known = {line.split(":", 1)[0] for line in text.splitlines()}
    new = [line for line in lines if line.split(":", 1)[0] not in known]
    file.write_text(text + "".join(f"{line}\n" for line in new), encoding="utf-8")


def _bundle_authorities(tree: Path) -> None:
    """Make what update-ca-certificates(8) makes: all certificates in one file."""
    found = sorted((tree / _AUTHORITIES).rglob("*.crt"))
    if not found:
        return
    (tree / _BUNDLE).parent.mkdir(parents=True, exist_ok=True)
    texts = (path.read_text(encoding="ascii").rstrip("\n") + "\n" for path in found)
    (tree / _BUNDLE).write_text("".join(texts), encoding="ascii")
