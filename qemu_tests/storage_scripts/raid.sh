# shellcheck shell=sh
printf 'label: gpt\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\nsize=64MiB, type=R\ntype=R\n' >/tmp/table
sfdisk -q /dev/vda </tmp/table
sfdisk -q /dev/vdb </tmp/table
udevadm settle
mdadm --create /dev/md/boot --run --level=1 --raid-devices=2 --metadata=1.0 --homehost=server /dev/vda2 /dev/vdb2
mdadm --create /dev/md/system --run --level=1 --raid-devices=2 --metadata=1.2 --bitmap=internal --homehost=server /dev/vda3 /dev/vdb3
udevadm settle
mkfs.ext4 -q -L boot /dev/md/boot
pvcreate -q /dev/md/system
vgcreate -q system /dev/md/system
lvcreate -q -y -n root -L 120M system
lvcreate -q -y -n home -L 60M system
mkfs.ext4 -q /dev/system/root
mkfs.ext4 -q /dev/system/home
mount /dev/system/root /mnt
mkdir -p /mnt/boot /mnt/home
mount /dev/md/boot /mnt/boot
mount /dev/system/home /mnt/home
