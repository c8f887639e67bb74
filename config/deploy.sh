#!/bin/sh
# Installs elastic-local into the cluster of kubectl's current context, and waits until it is ready: `make deploy`.
#   IMAGE  the image that nodes get, if not the one that deploy.yaml names
#   FROM   a manifest, or a folder with a kustomization; deploy.yaml by default
set -eu

. "$(dirname "$0")/kubectl.sh"

from=${FROM:-deploy.yaml}
image=${IMAGE:-}
case $image in
  *[!a-zA-Z0-9./:@_-]*) fail "Cannot deploy as IMAGE must be the name of an image: it is $image" ;;
esac

manifest=$(mktemp)
trap 'rm -f "$manifest"' EXIT
if [ -d "$from" ]; then kubectl kustomize "$from" > "$manifest"; else cat "$from" > "$manifest"; fi
[ -z "$image" ] || sed -i "s|^\( *image: \)elastic-local:[^ ]*$|\1$image|" "$manifest"

# A name without a registry is found only where somebody brought the image to the nodes.
bare=$(sed -n 's|^ *image: \(elastic-local:[^ ]*\)$|\1|p' "$manifest" | head -n 1)
if [ -z "$image" ] && [ -n "$bare" ] &&
  ! kubectl get nodes --output 'jsonpath={.items[*].status.images[*].names[*]}' | grep -q "/$bare\( \|$\)"; then
  fail "Cannot deploy as no node has the image $bare, and IMAGE names no other. Push it, with
  make docker-build-push IMAGE=<registry>/<name>:<tag>
and pass the same IMAGE here, or bring it to the nodes of a cluster on this machine, with
  make load CLUSTER=<kind, minikube or k3s>
If the nodes have it all the same, pass IMAGE=$bare."
fi

say_where
kubectl apply --filename "$manifest"
for part in daemonset/elastic-local-daemon deployment/elastic-local-provisioner; do
  ours rollout status "$part" --timeout=300s || {
    ours get pods --output wide >&2
    ours logs --selector app.kubernetes.io/name=elastic-local --prefix --tail 3 >&2 || true
    fail "Cannot say that it is ready: $part is not. What its pods say is above; see docs/troubleshooting.md."
  }
done
echo "elastic-local is ready. Try it: kubectl apply -f config/pvc-sample.yaml -f config/pod-sample.yaml"
