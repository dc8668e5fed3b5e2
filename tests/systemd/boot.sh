#!/bin/sh
# Builds the root of a throw-away machine in this process's own namespaces and, with `boot`, becomes its systemd.
# Run by machine.py:  boot.sh boot|chroot FOLDER LOWER CLONE [COMMAND…]
#
# FOLDER is an empty folder on a tmpfs; LOWER the overlay's lower folders (ending with /, so that the machine has
# the programs of this one and changes none of its files); CLONE is bound, read-only, to a path with a space in it,
# below a folder that only root can enter, as a person's home is.
set -eu
mode=$1 folder=$2 lower=$3 clone=$4
shift 4

root=$folder/root
mkdir -p "$folder/upper" "$folder/work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
cd "$root"

mount -t proc proc proc
# Kernel settings belong to the whole machine; only those of the network have a namespace.
mount --bind proc/sys proc/sys
[ "$mode" = chroot ] || mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup 2>/dev/null || [ "$mode" = chroot ]

for part in run tmp var/tmp; do
    mount -t tmpfs -o mode=0755 tmpfs "$part"
done
chmod 1777 tmp var/tmp

mount -t tmpfs -o mode=0755 tmpfs dev
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

mkdir -p "srv/only root/head gate"
chmod 0700 "srv/only root"
mount --bind "$clone" "srv/only root/head gate"
mount -o remount,bind,ro "srv/only root/head gate"

if [ "$mode" = chroot ]; then
    exec chroot . "$@"
fi

: >etc/fstab
# What a machine starts by itself is not wanted here; units that a test starts pull in what they need.
cat >etc/systemd/system/machine.target <<'UNIT'
[Unit]
Description=As much of a machine as a service needs
Requires=basic.target
After=basic.target
Wants=systemd-journald.service
UNIT
for unit in systemd-modules-load systemd-udevd systemd-udev-trigger systemd-binfmt systemd-random-seed \
    systemd-firstboot keyboard-setup console-setup apparmor; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
for mount in dev-hugepages dev-mqueue sys-kernel-debug sys-kernel-tracing sys-fs-fuse-connections; do
    ln -sf /dev/null "etc/systemd/system/$mount.mount"
done
rm -rf var/log/journal

echo machine >etc/hostname
ip link set lo up
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
# As systemd does by itself outside of containers: it hands credentials to services through this.
mount --make-rshared /
for systemd in /usr/lib/systemd/systemd /lib/systemd/systemd; do
    [ ! -x "$systemd" ] || exec env -i container=headgate-test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$systemd" \
        --system --unit=machine.target --show-status=no --log-target=journal-or-kmsg </dev/null
done
