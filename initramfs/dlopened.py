"""What programs load or start at run time and no header of theirs names.

One table, keyed by what triggers it: the soname or the file name of an object, as a glob(7)
pattern where versions vary. All of it is optional: a tree that lacks it works without.

What is asked for has one of three forms:

- ``libgcc_s.so.1``: a library, found as the loader finds it for the object that triggers;
- ``device-mapper/*.so``: files below any library directory of that object's machine;
- ``/usr/lib/openssh/sftp-server``: files at this place of the tree.

Sources are the dlopen(3) calls of the projects that are named; files that announce their
needs themselves (``.note.dlopen``, see initramfs/elfnotes.py) need no row here.
"""

from __future__ import annotations

import fnmatch
from functools import cache

# glibc: pthread_cancel(3) and pthread_exit(3) abort a process that finds no libgcc_s; the
# sources that nsswitch.conf usually names (files and dns are in libc itself since 2.34).
_GLIBC = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2")

# glibc's iconv(3): what FAT labels, ISO file names and Western mount options are written in.
_GCONV = (
    "gconv/gconv-modules",
    "gconv/gconv-modules.cache",
    "gconv/gconv-modules.d/*.conf",
    *(
        f"gconv/{name}.so"
        for name in (
            *("UTF-16", "UTF-32", "UTF-7", "UNICODE", "ISO8859-1", "ISO8859-15"),
            *("IBM437", "IBM850", "IBM852", "CP1252"),
        )
    ),
)

# What the pam.d files of login, su and sshd name on most distributions.
_PAM = tuple(
    f"security/pam_{name}.so"
    for name in (
        *("deny", "env", "faildelay", "keyinit", "limits", "loginuid", "nologin", "permit"),
        *("rootok", "securetty", "shells", "succeed_if", "umask", "unix", "warn"),
    )
)

_OPENSSH = tuple(
    f"{folder}/{program}"
    for folder in ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec")
    for program in ("sshd-session", "sshd-auth", "sftp-server")
)

_NFS_IDMAP = ("libnfsidmap/nsswitch.so", "libnfsidmap/static.so")

_DLOPENED: dict[str, tuple[str, ...]] = {
    "libc.so.6": _GLIBC,
    "libc.so.6.1": _GLIBC,
    "libpthread.so.0": ("libgcc_s.so.1",),
    "fatlabel": _GCONV,
    "fsck.fat": _GCONV,
    "genisoimage": _GCONV,
    "iconv": _GCONV,
    "libarchive.so.*": _GCONV,
    "libglib-2.0.so.0": _GCONV,
    "libisofs.so.*": _GCONV,
    "mkfs.fat": _GCONV,
    "mtools": _GCONV,
    # LVM2: dmeventd's plugins, which bring liblvm2cmd with them.
    "dmeventd": ("device-mapper/libdevmapper-event-*.so", "libdevmapper-event-lvm2*.so"),
    # cryptsetup: the handlers of LUKS2 tokens. Those of systemd bring as much as all the rest of
    # it and serve few, so they are for the caller to add; what they load in turn comes along.
    "libcryptsetup.so.12": ("cryptsetup/libcryptsetup-token-[!s]*.so", "cryptsetup/*-ssh.so"),
    "libcryptsetup-token-systemd-fido2.so": ("libfido2.so.1",),
    "libcryptsetup-token-systemd-pkcs11.so": ("libp11-kit.so.0",),
    "libcryptsetup-token-systemd-tpm2.so": (
        *("libtss2-esys.so.0", "libtss2-rc.so.0", "libtss2-mu.so.0"),
        "libtss2-tcti-device.so.0",
    ),
    "libtss2-tctildr.so.0": ("libtss2-tcti-default.so", "libtss2-tcti-device.so.0"),
    # OpenSSL: the legacy provider (MD4, DES, RC4), engines.
    "libcrypto.so.3": ("ossl-modules/*.so", "engines-3/*.so"),
    "libcrypto.so.1.1": ("engines-1.1/*.so",),
    "libpam.so.0": _PAM,
    "pam_unix.so": ("/usr/sbin/unix_chkpwd", "/sbin/unix_chkpwd"),
    "sshd": _OPENSSH,
    # multipath-tools: checkers, prioritizers, foreign libraries.
    "libmultipath.so.0": ("multipath/*.so",),
    # ntfs-3g: reparse points (deduplicated and compressed files).
    "libntfs-3g.so.*": ("ntfs-3g/*.so",),
    "libnfsidmap.so.0": _NFS_IDMAP,
    "libnfsidmap.so.1": _NFS_IDMAP,
}

_PATTERNS = tuple(key for key in _DLOPENED if "*" in key)


@cache
def dlopened_by(path_or_soname: str) -> tuple[str, ...]:
    """Return what the object with this path or soname asks for at run time, in three forms.

    The forms are described at the top of this module.
    """
    name = path_or_soname.rpartition("/")[2]
    exact = _DLOPENED.get(name)
    if exact is not None:
        return exact
    return next((_DLOPENED[key] for key in _PATTERNS if fnmatch.fnmatchcase(name, key)), ())
