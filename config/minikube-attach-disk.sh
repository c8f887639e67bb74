#!/bin/sh
# Gives a minikube node of driver kvm2 a new, blank disk: `make minikube-attach-disk`. It becomes /dev/vdb there.
#   PROFILE  the profile, which is the name of the machine; minikube by default
#   SIZE     10G by default
#   TARGET   vdb by default
set -eu

profile=${PROFILE:-minikube}
target=${TARGET:-vdb}
volume=elastic-local-$profile-$target.raw

libvirt() {
  virsh --quiet --connect qemu:///system "$@"
}

command -v virsh > /dev/null || {
  echo 'Cannot attach a disk as virsh must be in PATH (package libvirt-clients): there is none. This is for driver kvm2; with
others, start with "minikube start --extra-disks=1", or use loop images: see docs/install.md.' >&2
  exit 1
}
libvirt dominfo "$profile" > /dev/null || {
  echo "Cannot attach a disk as there must be a machine $profile: see \"minikube profile list\"." >&2
  exit 1
}
# Each step fails where something is there already: neither an image nor a disk of the machine is ever overwritten.
libvirt vol-create-as default "$volume" "${SIZE:-10G}" --format raw --allocation 0
libvirt attach-disk "$profile" "$(libvirt vol-path "$volume" --pool default)" "$target" --subdriver raw --targetbus virtio --persistent ||
  {
    libvirt vol-delete "$volume" --pool default
    exit 1
  }
echo "$profile has a new disk /dev/$target. Next: make minikube-create-vg"
