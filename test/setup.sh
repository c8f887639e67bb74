#!/bin/sh
# Installs what the tests need by apt, only what is missing. Says nothing when there is nothing to do.
#
#   test/setup.sh                       all of it
#   test/setup.sh <package>:<command>   only that
set -eu
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

# Each package with a command of it that the tests run.
[ $# -gt 0 ] || set -- qemu-system-x86:qemu-system-x86_64 lvm2:lvm thin-provisioning-tools:thin_check udev:udevadm kmod:modprobe iproute2:ip \
  e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs util-linux:setpriv procps:pkill \
  containerd:containerd runc:runc containernetworking-plugins:/usr/lib/cni/bridge \
  mmdebstrap:mmdebstrap buildah:buildah skopeo:skopeo docker-registry:docker-registry qemu-user:qemu-aarch64 \
  prometheus:promtool zsh:zsh fish:fish chromium:chromium \
  faketime:faketime
missing=
for pair; do
  command -v "${pair#*:}" > /dev/null || missing="$missing ${pair%:*}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "Cannot install$missing as the user must be root: run this with sudo." >&2
  exit 1
fi
if ! command -v apt-get > /dev/null; then
  echo "Cannot install$missing as there is no apt-get: install them by hand." >&2
  exit 1
fi

log=$(mktemp)
policy=
trap 'rm -f "$log" $policy' EXIT

quietly() {
  "$@" > "$log" 2>&1
}

install() {
  # Recommended packages (a terminal emulator, mail) are no help to a test.
  # shellcheck disable=SC2086
  quietly apt-get install -y -q --no-install-recommends --no-remove $missing
}

# The tests start their own. The packages would start these now (unless they are masked), and at each boot.
services=
for package in containerd docker-registry prometheus; do
  case "$missing " in
    *" $package "*) services="$services $package.service" ;;
  esac
done
if [ ! -d /run/systemd/system ]; then
  services=
  # Without systemd, what keeps a package from starting its init script (invoke-rc.d(8)).
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
  fi
fi
# shellcheck disable=SC2086
[ -z "$services" ] || quietly systemctl mask --runtime $services

echo "Installing$missing ..."
# The lists of a fresh machine are empty or out of date, and a mirror may have a bad moment.
install || { quietly apt-get update -q && install; } || { sleep 5 && quietly apt-get update -q && install; } || {
  cat "$log" >&2
  echo "Cannot install$missing: see apt's own words above." >&2
  exit 1
}
# shellcheck disable=SC2086
[ -z "$services" ] || { quietly systemctl unmask --runtime $services && quietly systemctl disable $services; }
