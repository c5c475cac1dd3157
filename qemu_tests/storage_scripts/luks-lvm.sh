# shellcheck shell=sh
printf 'label: gpt\nsize=100MiB, type=U, name="EFI System", attrs="RequiredPartition GUID:63"\ntype=L, name="crypt"\n' | sfdisk -q /dev/vda
udevadm settle
mkfs.vfat -F 32 -n ESP /dev/vda1
printf secret >/tmp/key
cryptsetup luksFormat --batch-mode --key-file /tmp/key --pbkdf-force-iterations 1000 --pbkdf pbkdf2 --type luks2 --label crypt /dev/vda2
printf more >/tmp/more
cryptsetup luksAddKey --key-file /tmp/key --pbkdf argon2id --pbkdf-memory 65536 --pbkdf-parallel 1 --pbkdf-force-iterations 4 /dev/vda2 /tmp/more
cryptsetup open --key-file /tmp/key /dev/vda2 vda2_crypt
pvcreate -q /dev/mapper/vda2_crypt
vgcreate -q --addtag backup vg0 /dev/mapper/vda2_crypt
lvcreate -q -y -n root -L 320M vg0
lvcreate -q -y -n srv -L 200M vg0
lvcreate -q -y --type thin-pool -n pool -L 100M vg0
lvcreate -q -y --thin -V 200M -n data vg0/pool
lvcreate -q -y -s -n data-snap vg0/data
lvcreate -q -y -s -n srv-snap -L 20M vg0/srv
lvcreate -q -y -n swap -L 32M vg0
mkfs.xfs -q -L root /dev/vg0/root
mkfs.btrfs -q -L 'Dienst äöü' /dev/vg0/srv
mkfs.ext4 -q -L data -m 1 /dev/vg0/data
mkswap -q /dev/vg0/swap
swapon /dev/vg0/swap
mount /dev/vg0/root /mnt
mkdir -p /mnt/boot/efi /mnt/srv /mnt/data /mnt/www
mount /dev/vda1 /mnt/boot/efi
mkdir -p /mnt/boot/efi/EFI/debian
: >/mnt/boot/efi/EFI/debian/shimx64.efi
: >/mnt/boot/efi/EFI/debian/grubx64.efi
modprobe efivarfs
mount -t efivarfs efivarfs /sys/firmware/efi/efivars || true
efibootmgr -q -c -d /dev/vda -p 1 -L debian -l '\EFI\debian\shimx64.efi'
mount /dev/vg0/srv /mnt/srv
mount /dev/vg0/data /mnt/data
btrfs subvolume create /mnt/srv/@www
btrfs subvolume create /mnt/srv/@www/deep
btrfs subvolume create '/mnt/srv/with space'
btrfs subvolume snapshot -r /mnt/srv/@www /mnt/srv/@snap
btrfs subvolume set-default /mnt/srv/@www
umount /mnt/srv
mount -o compress=zstd /dev/vg0/srv /mnt/www
mount -o subvol=/ /dev/vg0/srv /mnt/srv
