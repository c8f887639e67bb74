#!/bin/sh
# Sees to what targets of make need: says in one line what a person has to bring and is missing (root, npm, git, Go),
# and installs by apt what is missing of the rest. Silent when there is nothing to do.
#
#   test/setup.sh             what all tests need
#   test/setup.sh <need> ...  only that: what a target below needs, root, npm, git, go, or <package>:<command>
set -eu
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/go/bin:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

# Each package with a command of it that is run. Containers lack also what every other Debian has.
pools='mount:losetup e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs lvm2:lvm'
nodes="$pools util-linux:setpriv iproute2:ip procps:pkill"

needs_of() {
  case $1 in
    run)
      echo root npm mount:losetup e2fsprogs:mkfs.ext4
      # Without CAP_SYS_RESOURCE, test/demo.ts plays with xfs (capabilities(7)).
      effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
      [ $((0x$effective >> 24 & 1)) -eq 1 ] || echo xfsprogs:mkfs.xfs
      ;;
    kernel) echo root npm "$pools" ;;
    cluster) echo root npm go "$nodes" ;;
    test)
      echo root npm git go "$nodes" qemu-system-x86:qemu-system-x86_64 thin-provisioning-tools:thin_check udev:udevadm kmod:modprobe \
        containerd:containerd runc:runc containernetworking-plugins:/usr/lib/cni/bridge \
        mmdebstrap:mmdebstrap buildah:buildah skopeo:skopeo docker-registry:docker-registry qemu-user:qemu-aarch64 \
        prometheus:promtool zsh:zsh fish:fish chromium:chromium \
        faketime:faketime
      ;;
    root | npm | git | go | *:*) echo "$1" ;;
    *)
      echo "Cannot set up $1 as it must be run, kernel, cluster, test, root, npm, git, go or <package>:<command>." >&2
      return 1
      ;;
  esac
}

# Prints nothing when there is a Go that can build what the tests need, or that may fetch the one that can (from 1.21 on).
find_trouble_with_go() {
  wanted=$(sed -n 's/^go //p' test/cluster/control-plane/go.mod)
  if ! command -v go > /dev/null; then
    found='there is none'
  else
    found=$(cd test/cluster/control-plane && GOWORK=off go version 2>&1 | tail -n 1)
    case $found in
      'go version go'*)
        found=${found#go version go}
        found=${found%% *}
        [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ] || return 0
        found="it is $found"
        ;;
    esac
  fi
  echo "Go $wanted or newer (https://go.dev/dl; $found)"
}

needs=
for name in "${@:-test}"; do
  needs="$needs $(needs_of "$name")"
done
lacking=
missing=
lack() {
  lacking="$lacking${lacking:+, }$1"
}
for need in $needs; do
  case $need in
    root) [ "$(id -u)" -eq 0 ] || lack 'the rights of root (sudo)' ;;
    npm) command -v npm > /dev/null || lack 'npm (apt-get install npm)' ;;
    git) command -v git > /dev/null || lack 'git (apt-get install git)' ;;
    go)
      trouble=$(find_trouble_with_go)
      [ -z "$trouble" ] || lack "$trouble"
      ;;
    *) command -v "${need#*:}" > /dev/null || missing="$missing ${need%:*}" ;;
  esac
done
if [ -n "$lacking" ]; then
  echo "Cannot start as this is missing: $lacking." >&2
  exit 1
fi
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
