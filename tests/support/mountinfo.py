"""Tables of /proc/self/mountinfo, as machines of several kinds have them (shortened)."""

from __future__ import annotations

SERVER = rb"""22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 28 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8129032k,mode=755,inode64
25 24 0:22 / /dev/pts rw,nosuid,noexec,relatime shared:3 - devpts devpts rw,gid=5,mode=620
26 28 0:23 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=1630212k,mode=755
28 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root rw,errors=remount-ro
30 24 0:25 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw,inode64
32 22 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw
36 23 0:31 / /proc/sys/fs/binfmt_misc rw,relatime shared:13 - autofs systemd-1 rw,fd=29,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=15361
45 28 7:0 / /snap/core22/1380 ro,nodev,relatime shared:31 - squashfs /dev/loop0 ro,errors=continue
90 28 8:2 / /boot rw,relatime shared:51 - ext4 /dev/sda2 rw
93 90 8:1 / /boot/efi rw,relatime shared:53 - vfat /dev/sda1 rw,fmask=0077,dmask=0077,codepage=437
96 28 253:2 / /home rw,relatime shared:55 - xfs /dev/mapper/vg0-home rw,attr2,inode64,noquota
99 28 0:45 / /srv/share rw,relatime shared:57 - nfs4 filer:/export/share rw,vers=4.2,addr=192.0.2.7
102 28 0:46 / /net rw,relatime shared:59 - autofs /etc/auto.net rw,fd=6,pgrp=913,timeout=300,minproto=5,maxproto=5,indirect,pipe_ino=23114
105 28 0:47 / /mnt/nas rw,relatime shared:61 - autofs systemd-1 rw,fd=71,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=23115
106 105 0:93 / /mnt/nas rw,relatime shared:62 - cifs //192.0.2.8/D/My\040Files rw,vers=3.0
540 26 0:52 / /run/user/1000 rw,nosuid,nodev,relatime shared:301 - tmpfs tmpfs rw,size=813032k,mode=700
560 540 0:53 / /run/user/1000/gvfs rw,nosuid,nodev,relatime shared:310 - fuse.gvfsd-fuse gvfsd-fuse rw,user_id=1000,group_id=1000
561 540 0:54 / /run/user/1000/doc rw,nosuid,nodev,relatime shared:311 - fuse.portal portal rw,user_id=1000,group_id=1000
570 96 0:55 / /home/ann/remote rw,nosuid,nodev,relatime shared:320 - fuse.sshfs ann@box:/ rw,user_id=1000,group_id=1000
571 96 0:56 / /home/ann/.mount_edit ro,nosuid,nodev,relatime shared:321 - fuse.editor.AppImage editor.AppImage ro,user_id=1000,group_id=1000
580 26 8:17 / /run/media/ann/My\040Stick rw,nosuid,nodev,relatime shared:330 - vfat /dev/sdb1 rw,uid=1000
581 26 11:0 / /run/media/ann/DISC ro,nosuid,nodev,relatime shared:331 - iso9660 /dev/sr0 ro,uid=1000
590 28 253:2 /ann/site /srv/www rw,relatime shared:55 - xfs /dev/mapper/vg0-home rw,attr2,inode64,noquota
"""  # noqa: E501
"""LVM, snaps, NFS, an automounted CIFS, FUSE of a user, removable media, a bind mount."""

BTRFS = rb"""26 66 0:24 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
66 1 0:33 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p3 rw,compress=zstd:1,ssd,space_cache=v2,subvolid=256,subvol=/@
92 66 0:33 /@home /home rw,relatime shared:64 - btrfs /dev/nvme0n1p3 rw,compress=zstd:1,ssd,space_cache=v2,subvolid=257,subvol=/@home
93 66 0:33 / /mnt/pool rw,relatime shared:65 - btrfs /dev/nvme0n1p3 rw,compress=zstd:1,ssd,space_cache=v2,subvolid=5,subvol=/
94 66 259:1 / /boot/efi rw,relatime shared:66 - vfat /dev/nvme0n1p1 rw
95 66 0:42 / /tmp rw,nosuid,nodev shared:67 - tmpfs tmpfs rw,nr_inodes=1048576
"""  # noqa: E501
"""Subvolumes, and the top of the same filesystem mounted beside them."""

DOCKER = rb"""25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard
26 25 0:23 / /run rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,mode=755
115 25 8:1 /var/lib/docker/overlay2 /var/lib/docker/overlay2 rw,relatime - ext4 /dev/sda1 rw,discard
121 115 0:38 / /var/lib/docker/overlay2/8cdb/merged rw,relatime shared:7 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ZU2E:/var/lib/docker/overlay2/l/HY5Y,upperdir=/var/lib/docker/overlay2/8cdb/diff,workdir=/var/lib/docker/overlay2/8cdb/work,nouserxattr
122 26 0:4 net:[4026533221] /run/docker/netns/ef36 rw shared:10 - nsfs nsfs rw
"""  # noqa: E501
"""A host of containers: an overlay, a directory bound over itself."""

CONTAINER = rb"""2038 1905 0:186 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/QPIB,upperdir=/var/lib/docker/overlay2/5c/diff,workdir=/var/lib/docker/overlay2/5c/work
2039 2038 0:189 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
2040 2038 0:190 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
2046 2038 259:2 /var/lib/docker/containers/1f0a/hosts /etc/hosts rw,relatime - ext4 /dev/nvme0n1p2 rw
2100 2038 259:2 /srv/data /data rw,relatime shared:412 - ext4 /dev/nvme0n1p2 rw
"""  # noqa: E501
"""Inside a container: the root is an overlay, single files are mounts."""
