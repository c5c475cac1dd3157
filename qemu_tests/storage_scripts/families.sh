# shellcheck shell=sh
printf 'label: gpt\nsize=64MiB\nsize=64MiB\nsize=64MiB\nsize=160MiB\nsize=64MiB\nsize=64MiB\nsize=32MiB\nsize=128MiB\nsize=128MiB\nsize=8MiB\nsize=16MiB\n' | sfdisk -q /dev/vda
udevadm settle
mkfs.ext3 -q -L three /dev/vda1
mkfs.exfat -L exfat /dev/vda2
mkfs.f2fs -q -l flash -O extra_attr,inode_checksum /dev/vda3
mkfs.nilfs2 -q -L log /dev/vda4
mkfs.jfs -q -L jfs /dev/vda5
mkfs.ntfs -q -F -L windows /dev/vda6
mkfs.vfat -F 12 -n TWELVE /dev/vda7
mkfs.btrfs -q -L pair -d raid1 -m raid1 /dev/vda8 /dev/vda9
mkfs.minix /dev/vda10
printf secret >/tmp/key
cryptsetup luksFormat --batch-mode --key-file /tmp/key --pbkdf-force-iterations 1000 --type luks1 /dev/vda11
mkdir -p /mnt/3 /mnt/pair /mnt/minix
mount /dev/vda1 /mnt/3
mount /dev/vda8 /mnt/pair
modprobe minix && mount /dev/vda10 /mnt/minix
