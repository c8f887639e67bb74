# What the scripts of this folder share, for `.`.

fail() {
  echo "$*" >&2
  exit 1
}

command -v kubectl > /dev/null ||
  fail 'Cannot reach a cluster as kubectl must be in PATH: there is none. See https://kubernetes.io/docs/tasks/tools'

kubectl version --output json > /dev/null ||
  fail 'Cannot reach the cluster of kubectl'"'"'s current context; see "kubectl config get-contexts".'

say_where() {
  echo "Cluster: context $(kubectl config current-context 2> /dev/null || echo '(none: the one this machine is in)')"
}

ours() {
  kubectl --namespace elastic-local "$@"
}
