# shellcheck shell=sh
printf 'label: dos\nlabel-id: 0x1badcafe\nsize=64MiB, type=83, bootable\nsize=200MiB, type=83\ntype=5\nsize=48MiB, type=82\ntype=c\n' | sfdisk -q /dev/vda
dd if=/usr/lib/grub/i386-pc/boot.img of=/dev/vda bs=440 count=1 conv=notrunc 2>/dev/null
udevadm settle
mkfs.ext2 -q -L boot /dev/vda1
mkfs.ext4 -q -L 'root disk' -m 3 -O ^metadata_csum -E stride=4,stripe_width=8 -e remount-ro -r 1 /dev/vda2
mkswap -L swap /dev/vda5
mkfs.vfat -F 16 -n DATA /dev/vda6
mount /dev/vda2 /mnt
mkdir -p /mnt/boot /mnt/etc /mnt/home/joe /mnt/srv '/mnt/with space'
mount /dev/vda1 /mnt/boot
mount -o ro /dev/vda6 '/mnt/with space'
mount --bind /mnt/home /mnt/srv
swapon -p 5 /dev/vda5
dd if=/dev/zero of=/mnt/swapfile bs=1M count=8 2>/dev/null
chmod 600 /mnt/swapfile
mkswap -q -L file /mnt/swapfile
swapon /mnt/swapfile
printf '/dev/vda1 /mnt/boot ext2 defaults,nodev 0 2\n/dev/vda2 /mnt ext4 errors=remount-ro 0 1\n' >/etc/fstab
