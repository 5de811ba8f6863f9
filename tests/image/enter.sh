#!/bin/bash
# Runs a command in the folder ROOT as in a container: in namespaces of its own, which were made for this script.
#
#   enter.sh ROOT HOSTNAME DROP MOUNTS COMMAND...
#
# DROP: "yes" when what is written to ROOT is to be lost at the end. MOUNTS: lines of SOURCE TARGET.
set -euo pipefail

root=$1 name=$2 drop=$3 mounts=$4
shift 4

hostname "$name"
if [[ $drop == yes ]]; then
    mount -t tmpfs tmpfs "$root/mnt"
    mkdir "$root/mnt/upper" "$root/mnt/work"
    mount -t overlay -o "lowerdir=$root,upperdir=$root/mnt/upper,workdir=$root/mnt/work" overlay "$root"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
else
    mount --bind "$root" "$root"
fi

# What a container has, with Docker's 64 MiB of shared memory.
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"

mount -t tmpfs -o mode=755 tmpfs "$root/mnt"
while read -r source target; do
    if [[ -d $source ]]; then
        mkdir -p "$root$target"
    elif [[ ! -e $root$target ]]; then
        install -D /dev/null "$root$target"
    fi
    mount --bind "$source" "$root$target"
done < <(printf '%s' "$mounts")

exec "$@"
