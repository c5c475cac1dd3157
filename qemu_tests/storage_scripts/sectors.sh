# shellcheck shell=sh
# The rescue environment loaded it, with a disk of its own.
modprobe -r scsi_debug
modprobe scsi_debug sector_size=4096 dev_size_mb=96
udevadm settle
printf 'label: gpt\nsize=16MiB, type=U\ntype=L\n' | sfdisk -q /dev/sda
udevadm settle
mkfs.vfat /dev/sda1
mkfs.ext4 -q /dev/sda2
mount /dev/sda2 /mnt
mkdir /mnt/efi
mount /dev/sda1 /mnt/efi
printf 'label: dos\nsize=16MiB\n' | sfdisk -q /dev/vda
udevadm settle
cryptsetup open --type plain --key-file /dev/urandom --key-size 256 --cipher aes-xts-plain64 /dev/vda1 cryptswap
mkswap -q /dev/mapper/cryptswap
swapon /dev/mapper/cryptswap
