#!/bin/sh
# Init of the guest that guest.ts boots, over the machine's own files, which are read-only here.
# Only tmpfs, the scratch folder and the disks can be written. From the kernel's command line:
#   guest_tree      the working tree
#   guest_scratch   the scratch folder, with .guest/command to run
#   guest_kernel    the folder with the kernel's modules
#   guest_modules   modules to load, comma-separated
#   guest_compiled  the folder of what Node compiled, which all guests of a run share, if there is one
#   guest_address   the address of eth0, if there is a network
# The command's output and exit status go to .guest/stdout, .guest/stderr and .guest/exit-code.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/tmp
control=$guest_scratch/.guest

# Ends the guest at once, whatever still hangs; the kernel is told not to start again.
halt() {
  echo b > /proc/sysrq-trigger
}

fail() {
  echo "guest: $*" > /dev/console
  halt
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
# Device-mapper's nodes appear there.
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
# Folders of the machine that are hidden from here on can be had below this one.
mkdir /run/machine
mount --bind / /run/machine
for folder in /dev/shm /tmp /mnt /media /var/tmp /var/lib /var/log /var/cache; do
  [ -d $folder ] && mount -t tmpfs tmpfs $folder
done
mkdir -p /run/lock/lvm /run/lvm /var/lib/kubelet

# A tree below one of those is hidden now.
if [ ! -e "$guest_tree/package.json" ]; then
  mkdir -p "$guest_tree" && mount --bind "/run/machine$guest_tree" "$guest_tree" || fail "cannot mount $guest_tree"
fi
# What is printed is on the machine's side at once, and stays there when the power is cut: nothing is cached here.
mkdir -p "$guest_scratch" &&
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none scratch "$guest_scratch" ||
  fail "cannot mount $guest_scratch"
if [ -n "$guest_compiled" ]; then
  mkdir -p "$guest_compiled" &&
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none compiled "$guest_compiled" ||
    fail "cannot mount $guest_compiled"
fi
cd "$guest_scratch" || fail "cannot enter $guest_scratch"
unset OLDPWD

modprobe -d "/run/machine$guest_kernel" -a $(echo "$guest_modules" | tr , ' ') || fail "cannot load all of $guest_modules"
mkdir -p /run/guest/lvm
cat > /run/guest/lvm/lvm.conf <<'CONF'
devices { use_devicesfile=0 }
activation { udev_sync=0 udev_rules=0 }
backup { backup=0 archive=0 }
CONF
export LVM_SYSTEM_DIR=/run/guest/lvm

ip link set lo up
if [ -n "$guest_address" ]; then
  ip address add "$guest_address" dev eth0 && ip link set eth0 up || fail "cannot be reached at $guest_address"
fi

# Its own session, so that nothing it starts is tied to the console.
setsid -w sh "$control/command" < /dev/null >> "$control/stdout" 2>> "$control/stderr"
echo $? > "$control/exit-code"

# What was written to the disk stays, but a device that hangs does not hold up the end.
sync &
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 $! 2> /dev/null || break
  sleep 0.5
done
halt
