"""What modules ask for at run time only, so that neither symbols nor softdeps tell.

The kernel calls request_module() with an alias: for a cipher ("crypto-xts"), an md level
("md-level-5"), a character set ("nls_cp437"), a security flavour. Each word here is a module
or an alias, taken where the tree has it; each row says what for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Need:
    """``words`` (modules or aliases) that ``module`` may ask for, and ``why`` in words."""

    module: str
    words: tuple[str, ...]
    why: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CHARACTER_SETS = _words("nls_cp437 nls_iso8859_1 nls_ascii nls_utf8")
_LUKS_CIPHERS = _words(
    "crypto-aes crypto-xts crypto-ecb crypto-cbc crypto-ctr crypto-essiv crypto-lrw crypto-serpent"
    " crypto-twofish crypto-camellia crypto-adiantum crypto-chacha20 crypto-xchacha12"
    " crypto-xchacha20 crypto-nhpoly1305"
)
_LUKS_DIGESTS = _words(
    "crypto-sha1 crypto-sha256 crypto-sha512 crypto-rmd160 crypto-wp512 crypto-blake2b-256"
    " crypto-hmac crypto-crc32c"
)

_ROWS = (
    Need("dm_crypt", _LUKS_CIPHERS, "ciphers of LUKS volumes"),
    Need("dm_crypt", _LUKS_DIGESTS, "digests of LUKS volumes"),
    Need("dm_crypt", _words("crypto-authenc crypto-aegis128 crypto-gcm"), "LUKS2 with integrity"),
    Need("dm_crypt", ("dm_integrity",), "LUKS2 with integrity"),
    # cryptsetup encrypts LUKS2 key slots, and benchmarks, through AF_ALG sockets.
    Need("dm_crypt", _words("algif_skcipher algif_hash algif_aead"), "key slots by cryptsetup"),
    Need("dm_integrity", _words("crypto-crc32c crypto-sha256 crypto-hmac"), "integrity tags"),
    Need("dm_integrity", ("crypto-xxhash64",), "integrity tags"),
    Need("dm_verity", _words("crypto-sha256 crypto-sha512"), "hash trees"),
    # The template encrypts with ECB inside; older kernels name it in no softdep.
    Need("xts", ("crypto-ecb",), "inner cipher of XTS"),
    Need("lrw", ("crypto-ecb",), "inner cipher of LRW"),
    Need("aesni_intel", _words("cryptd crypto-ecb"), "asynchronous use of AES-NI"),
    Need("dm_mod", _words("dm_mirror dm_snapshot dm_zero"), "targets of LVM"),
    Need("dm_raid", _words("raid0 raid1 raid10 raid456"), "personalities of LVM RAID volumes"),
    Need("dm_cache", ("dm_cache_smq",), "default policy of cached volumes"),
    Need(
        "dm_multipath",
        _words("dm_round_robin dm_queue_length dm_service_time"),
        "path selectors of multipath devices",
    ),
    Need(
        "dm_multipath",
        _words("scsi_dh_alua scsi_dh_rdac scsi_dh_emc scsi_dh_hp_sw"),
        "device handlers of multipath storage",
    ),
    Need("md_mod", _words("raid0 raid1 raid10 raid456 linear"), "personalities of md arrays"),
    Need("fat", _CHARACTER_SETS, "names of files on FAT"),
    Need("vfat", _CHARACTER_SETS, "names of files on FAT"),
    Need("exfat", ("nls_utf8",), "names of files on exFAT"),
    Need("isofs", _words("nls_iso8859_1 nls_utf8"), "Joliet names"),
    Need("udf", ("nls_utf8",), "names of files on UDF"),
    Need("hfs", _CHARACTER_SETS, "names of files on HFS"),
    Need("hfsplus", ("nls_utf8",), "names of files on HFS+"),
    Need("ntfs3", ("nls_utf8",), "names of files on NTFS"),
    Need("jfs", ("nls_utf8",), "names of files on JFS"),
    Need("cifs", _words("nls_utf8 nls_iso8859_1"), "names of files on SMB shares"),
    Need(
        "cifs",
        _words(
            "crypto-aes crypto-ecb crypto-hmac crypto-cmac crypto-md4 crypto-md5 crypto-sha256"
            " crypto-sha512 crypto-gcm crypto-ccm"
        ),
        "signing and encryption of SMB",
    ),
    Need("nfs", _words("nfsv3 nfsv4"), "versions of NFS"),
    Need("nfsv4", _words("rpcsec_gss_krb5 crypto-md5 crypto-hmac"), "security of NFS 4"),
    Need(
        "nfsv4",
        _words("nfs_layout_nfsv41_files nfs_layout_flexfiles blocklayoutdriver"),
        "layouts of parallel NFS",
    ),
    Need(
        "rpcsec_gss_krb5",
        _words("crypto-aes crypto-cbc crypto-cts crypto-hmac crypto-sha1 crypto-sha256"),
        "Kerberos security of NFS",
    ),
    Need(
        "btrfs",
        _words("crypto-crc32c crypto-xxhash64 crypto-sha256 crypto-blake2b-256"),
        "checksums of Btrfs",
    ),
    Need("ext4", ("crypto-crc32c",), "metadata checksums of ext4"),
    Need("jbd2", ("crypto-crc32c",), "journal checksums of ext4"),
    Need("f2fs", ("crypto-crc32",), "checksums of F2FS"),
    # Without its own driver crc32c of the CPU is not asked for by anything that has a device.
    Need("libcrc32c", _words("crypto-crc32c crc32c_generic"), "checksums of XFS and Btrfs"),
    Need("nvme_tcp", ("crypto-crc32c",), "digests of NVMe over TCP"),
    Need("iscsi_tcp", ("crypto-crc32c",), "digests of iSCSI"),
    Need("crc_t10dif", ("crypto-crct10dif",), "protection information of SCSI disks"),
    Need("usbhid", _words("hid_generic"), "USB keyboards"),
    Need("mmc_core", ("mmc_block",), "cards of the MMC bus"),
    Need("scsi_mod", _words("sd_mod sr_mod"), "disks of the SCSI bus"),
    Need("libata", _words("sd_mod sr_mod"), "disks of the ATA bus"),
    Need(
        "team",
        _words(
            "team-mode-activebackup team-mode-broadcast team-mode-loadbalance team-mode-random"
            " team-mode-roundrobin"
        ),
        "modes of teamed links",
    ),
    Need("macsec", _words("crypto-gcm crypto-aes"), "ciphers of MACsec"),
    Need("nvme_fabrics", ("nvme_tcp",), "NVMe over TCP"),
    Need("zram", _words("crypto-lzo-rle crypto-lz4 crypto-zstd"), "compressors of zram"),
    Need("virtio_net", ("net_failover",), "standby network devices"),
    Need("r8169", ("realtek",), "PHY of the network card"),
)


def _by_module() -> dict[str, tuple[Need, ...]]:
    found: dict[str, tuple[Need, ...]] = {}
    for row in _ROWS:
        found[row.module] = (*found.get(row.module, ()), row)
    return found


RUN_TIME_NEEDS: Mapping[str, tuple[Need, ...]] = MappingProxyType(_by_module())
"""What each module may ask for at run time, by the module's name."""
