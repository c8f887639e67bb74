#!/bin/sh
# Makes the volume group of nodes, of disks that are blank: `make create-vg`, `minikube-create-vg`, `gke-create-vg`. On each
# node a pod runs "elastic-local create-vg", which refuses a disk that is in use or holds anything.
#   NODES     names of nodes, or
#   SELECTOR  a label selector for nodes
#   DISKS     disks as the nodes name them; may hold * and the like
#   SIZE      the size that each disk must have, such as 375Gi; any by default
#   GROUP     the volume group, if not elastic-local-vg
#   IMAGE     the image that nodes get, if not the one that deploy.yaml names
set -eu

. "$(dirname "$0")/kubectl.sh"

manifest=$(dirname "$0")/../deploy.yaml
group=${GROUP:-elastic-local-vg}
image=${IMAGE:-$(sed -n 's/^ *image: \(elastic-local:.*\)$/\1/p' "$manifest" | head -n 1)}

[ -n "${DISKS:-}" ] || fail 'Cannot create a volume group as DISKS must name disks: DISKS=/dev/sdb, or several in quotes.'
if [ -n "${SELECTOR:-}" ]; then
  nodes=$(kubectl get nodes --selector "$SELECTOR" --output jsonpath='{.items[*].metadata.name}')
else
  nodes=${NODES:-}
fi
[ -n "$nodes" ] || fail 'Cannot create a volume group as there must be a node: NODES=<name>, or SELECTOR=<label>=<value>.'
for word in $group $image ${SIZE:-} $nodes; do
  case $word in *[!a-zA-Z0-9+_./:@-]*) fail "Cannot create a volume group as no name has such characters: $word" ;; esac
done
case $DISKS in
  *[!a-zA-Z0-9+_./:@\ *?[\]-]*) fail "Cannot create a volume group as DISKS must be paths and patterns: $DISKS" ;;
esac

# A list in YAML; the patterns are for the node.
set -f
disks=
for disk in $DISKS; do disks="$disks, '$disk'"; done
set +f

say_where
# The first object of deploy.yaml is the namespace.
sed '/^---$/,$d' "$manifest" | kubectl apply --filename - > /dev/null

failed=
for node in $nodes; do
  kubectl get node "$node" --output name > /dev/null
  pod=create-vg-$node
  ours delete pod "$pod" --ignore-not-found > /dev/null
  kubectl apply --filename - > /dev/null << END
apiVersion: v1
kind: Pod
metadata: { name: $pod, namespace: elastic-local }
spec:
  nodeName: $node
  restartPolicy: Never
  automountServiceAccountToken: false
  tolerations: [{ operator: Exists }]
  containers:
    - name: create-vg
      image: $image
      command: [elastic-local, create-vg, --lvm-volume-group=$group${SIZE:+, --size=$SIZE}$disks]
      securityContext: { privileged: true }
      volumeMounts:
        - { name: dev, mountPath: /dev }
        - { name: lvm, mountPath: /etc/lvm }
        - { name: lvm-run, mountPath: /run/lvm }
        - { name: lvm-lock, mountPath: /run/lock/lvm }
        - { name: udev, mountPath: /run/udev }
  volumes:
    - { name: dev, hostPath: { path: /dev, type: Directory } }
    - { name: lvm, hostPath: { path: /etc/lvm, type: DirectoryOrCreate } }
    - { name: lvm-run, hostPath: { path: /run/lvm, type: DirectoryOrCreate } }
    - { name: lvm-lock, hostPath: { path: /run/lock/lvm, type: DirectoryOrCreate } }
    - { name: udev, hostPath: { path: /run/udev, type: DirectoryOrCreate } }
END
  # The pod's phase says so only later.
  end='{.status.containerStatuses[0].state.terminated.exitCode}'
  if ours wait pod "$pod" --timeout=120s --for=jsonpath="$end" > /dev/null; then
    ours logs "$pod" | sed "s|^|$node: |"
    [ "$(ours get pod "$pod" --output jsonpath="$end")" = 0 ] || failed="$failed $node"
  else
    ours get pod "$pod" --output wide >&2
    ours get events --field-selector involvedObject.name="$pod" >&2
    failed="$failed $node"
  fi
  ours delete pod "$pod" > /dev/null
  # A daemon that ended for want of the group would wait minutes until it tries again.
  set -- --selector app.kubernetes.io/component=daemon --field-selector spec.nodeName="$node"
  case $(ours get pods "$@" --output jsonpath='{.items[*].status.containerStatuses[0].ready}') in
    *false*) ours delete pods "$@" --wait=false > /dev/null ;;
  esac
done
[ -z "$failed" ] || fail "Cannot say that all is done. Not made:$failed"
