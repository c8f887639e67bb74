#!/bin/sh
# Installs what the tests need by apt, only what is missing. Says nothing when there is nothing to do.
set -eu
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

# Each package with a command of it that the tests run.
missing=
for pair in user-mode-linux:linux lvm2:lvm thin-provisioning-tools:thin_check kmod:modprobe iproute2:ip \
  e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs util-linux:setpriv procps:pkill \
  containerd:containerd runc:runc containernetworking-plugins:/usr/lib/cni/bridge \
  mmdebstrap:mmdebstrap buildah:buildah; do
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
trap 'rm -f "$log"' EXIT

quietly() {
  "$@" > "$log" 2>&1
}

install() {
  # Recommended packages (a terminal emulator, mail) are no help to a test.
  # shellcheck disable=SC2086
  quietly apt-get install -y -q --no-install-recommends --no-remove $missing
}

# The tests start a containerd of their own. The package would start one now (unless it is masked), and at each boot.
case "$missing " in
  *' containerd '*) service=containerd.service ;;
  *) service= ;;
esac
[ -d /run/systemd/system ] || service=
[ -z "$service" ] || quietly systemctl mask --runtime "$service"

echo "Installing$missing ..."
# The lists of a fresh machine are empty or out of date, and a mirror may have a bad moment.
install || { quietly apt-get update -q && install; } || { sleep 5 && quietly apt-get update -q && install; } || {
  cat "$log" >&2
  echo "Cannot install$missing: see apt's own words above." >&2
  exit 1
}
[ -z "$service" ] || quietly systemctl unmask --runtime "$service"
[ -z "$service" ] || quietly systemctl disable "$service"
