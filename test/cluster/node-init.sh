#!/bin/sh
# The first process of a container node: gives the node, which is a mount namespace and a process namespace, folders of
# its own at the usual places. When it ends, all of the node does. Arguments: the node's folder, its name for cgroups.
set -eu
folder=$1
cgroup=$2

# A mount can be moved only where it does not propagate.
mount --make-rprivate /

# The node's group becomes the top, of each of version 1's hierarchies or of the only one of version 2. What it lies in
# must not be there any more, as runc looks at the mount table.
become_top() {
  mkdir -p "$folder/cgroup"
  mount --bind "$1/$cgroup" "$folder/cgroup"
  umount "$1"
  mount --move "$folder/cgroup" "$1"
}
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  become_top /sys/fs/cgroup
else
  for hierarchy in /sys/fs/cgroup/*; do
    [ -L "$hierarchy" ] || become_top "$hierarchy"
  done
fi

# As systemd has it on real nodes; nothing gets out of this namespace.
mount --make-rshared /

own() {
  mkdir -p "$folder$1"
  mount --bind "$folder$1" "$1"
}
own /var/lib
own /var/log
own /mnt
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock
mkdir -p "$folder/libexec" "$folder/libexec-work"
mount -t overlay -o "lowerdir=/usr/libexec,upperdir=$folder/libexec,workdir=$folder/libexec-work" overlay /usr/libexec
plugins=/usr/libexec/kubernetes/kubelet-plugins/volume/exec
mkdir -p "$plugins"
own "$plugins"

# What a kubelet would set for the whole machine.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=$folder/settings/${setting%=*}
  mkdir -p "${file%/*}"
  echo "${setting#*=}" > "$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done

: > "$folder/up"
# Takes the processes that lose their parents, too.
while :; do
  sleep 86400 &
  wait
done
