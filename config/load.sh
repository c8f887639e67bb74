#!/bin/sh
# Brings the image to the nodes of a cluster on this machine, without a registry: `make load CLUSTER=…`.
#   CLUSTER  kind, minikube or k3s
#   NAME     the name of kind's cluster, or minikube's profile, if it is not the default
set -eu

image=dist/image/elastic-local.oci.tar

fail() {
  echo "$*" >&2
  exit 1
}

case ${CLUSTER:-} in
  kind | minikube | k3s) ;;
  *) fail "Cannot load the image as CLUSTER must be kind, minikube or k3s: it is ${CLUSTER:-empty}" ;;
esac
command -v "$CLUSTER" > /dev/null || fail "Cannot load the image as $CLUSTER must be in PATH: it is not"
case $CLUSTER in
  kind) kind load image-archive "$image" --name "${NAME:-kind}" ;;
  minikube) minikube image load "$image" --profile "${NAME:-minikube}" ;;
  k3s) k3s ctr images import "$image" ;;
esac
echo "The image is there. Next: make deploy IMAGE=$(sed -n 's/^ *image: \(elastic-local:.*\)/\1/p' deploy.yaml | head -n 1)"
