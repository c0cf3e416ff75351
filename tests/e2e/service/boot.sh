#!/bin/bash
# Boots systemd in a copy of this machine's file system that exists in memory only, and starts check.sh in it as a service. Called in
# new namespaces with the folder of the case. Nothing outside of that folder can change: before systemd begins, the root of the
# file system must be the copy.
set -euo pipefail
folder="$1"
mkdir "$folder/boot"
mount -t tmpfs tmpfs "$folder/boot"
mkdir "$folder/boot/upper" "$folder/boot/work" "$folder/boot/root"
mount -t overlay overlay "$folder/boot/root" \
    -o "lowerdir=/,upperdir=$folder/boot/upper,workdir=$folder/boot/work"
cd "$folder/boot/root"
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir case
mount --bind "$folder" case
pivot_root . mnt
umount -l /mnt
[ "$(stat -f -c %T /)" = overlayfs ] || { echo "the root is no copy" >&2; exit 1; }

rm -rf /etc/systemd/system/*.wants /etc/systemd/system/*.requires
for unit in systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-udevd systemd-udev-trigger systemd-logind; do
    ln -sf /dev/null "/etc/systemd/system/$unit.service"
done
cat >/etc/systemd/system/check.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/bash /case/check.sh
StandardOutput=file:/case/said
StandardError=inherit
UNIT
export container=test
exec /lib/systemd/systemd --log-target=null --unit=check.service
