# shellcheck shell=sh
mdadm --create /dev/md/five --run --level=5 --raid-devices=3 --spare-devices=1 --chunk=64 --homehost=any /dev/vda /dev/vdb /dev/vdc /dev/vdd
udevadm settle
printf secret >/tmp/key
cryptsetup luksFormat --batch-mode --key-file /tmp/key --pbkdf-force-iterations 1000 --pbkdf pbkdf2 --type luks2 --sector-size 4096 /dev/md/five
cryptsetup open --key-file /tmp/key /dev/md/five outer
printf 'label: gpt\nsize=100MiB\nsize=100MiB\nsize=100MiB\n' | sfdisk -q /dev/mapper/outer
kpartx -a /dev/mapper/outer || partx -a /dev/mapper/outer
udevadm settle
pvcreate -q /dev/mapper/outer1 /dev/mapper/outer2 /dev/mapper/outer3
vgcreate -q -s 1M in /dev/mapper/outer1 /dev/mapper/outer2 /dev/mapper/outer3
lvcreate -q -y -n striped -i 2 -I 16k -L 40M in
lvcreate -q -y -n mirror --type raid1 -m 1 -L 20M in
lvcreate -q -y -n old --type mirror -m 1 --mirrorlog core -L 8M in
lvcreate -q -y -n five --type raid5 -i 2 -L 16M in
lvcreate -q -y -n cached -L 16M in /dev/mapper/outer3
lvcreate -q -y --type cache-pool -n fast -L 8M in /dev/mapper/outer3
lvconvert -q -y --type cache --cachemode writethrough --cachepool in/fast in/cached
lvcreate -q -y -n two -L 16M in /dev/mapper/outer1
lvextend -q -L 24M in/two /dev/mapper/outer2
cryptsetup luksFormat --batch-mode --key-file /tmp/key --pbkdf-force-iterations 1000 --type luks1 /dev/in/two
cryptsetup open --key-file /tmp/key /dev/in/two inner
mkfs.ext4 -q /dev/mapper/inner
mkfs.ext4 -q /dev/in/striped
mkfs.ext4 -q /dev/in/mirror
mkdir -p /mnt/inner
mount /dev/in/striped /mnt
mkdir -p /mnt/inner
mount /dev/mapper/inner /mnt/inner
