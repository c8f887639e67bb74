#!/bin/sh
# Removes elastic-local from the cluster of kubectl's current context: `make undeploy`. Data is never deleted here: while
# there are volumes it refuses, and with KEEP_VOLUMES=true it leaves them, and the pods on them, as they are.
set -eu

. "$(dirname "$0")/kubectl.sh"

driver=volumes.k8s.elastic.co/elastic-local

# The PersistentVolumes of our driver.
list_volumes() {
  kubectl get persistentvolumes --output jsonpath="{range .items[?(@.spec.flexVolume.driver==\"$driver\")]}\
{.metadata.name}{'\t'}{.metadata.labels.volumes\.k8s\.elastic\.co/node-affinity}{'\t'}{.spec.capacity.storage}{'\t'}\
{.spec.persistentVolumeReclaimPolicy}{'\t'}{.spec.claimRef.namespace}/{.spec.claimRef.name}{'\n'}{end}"
}

# The StorageClasses that we serve, and the claims of theirs that wait for a volume.
list_classes() {
  for provisioner in elastic-local.volumes.k8s.elastic.co "$driver"; do
    kubectl get storageclasses \
      --output jsonpath="{range .items[?(@.provisioner==\"$provisioner\")]}{.metadata.name}{'\n'}{end}"
  done
}
list_waiting() {
  for class in $(list_classes); do
    kubectl get persistentvolumeclaims --all-namespaces \
      --output jsonpath="{range .items[?(@.spec.storageClassName==\"$class\")]}\
{.metadata.namespace}/{.metadata.name}{'\t'}{.status.phase}{'\n'}{end}" | sed -n 's/\tPending$//p'
  done
}

# A setting of the daemons, as they have it now.
read_daemons() {
  ours get daemonset elastic-local-daemon --ignore-not-found --output jsonpath="$1"
}
folder_of() {
  read_daemons "{.spec.template.spec.volumes[?(@.name==\"$1\")].hostPath.path}"
}
setting_of() {
  read_daemons "{.spec.template.spec.containers[0].env[?(@.name==\"ELASTIC_LOCAL_$1\")].value}"
}

say_where
volumes=$(list_volumes)
waiting=$(list_waiting)
if [ -n "$volumes" ] && [ "${KEEP_VOLUMES:-}" != true ]; then
  cat >&2 << END
Cannot remove elastic-local as it has volumes:

$(printf 'VOLUME\tNODE\tSIZE\tPOLICY\tCLAIM\n%s\n' "$volumes" | awk -F '\t' '{printf "  %-42s %-20s %-8s %-8s %s\n", $1, $2, $3, $4, $5}')

Either delete the claims whose data nobody needs, and wait until "kubectl get pv" names none of these; the data of those
with policy Delete goes with them. Or keep the volumes: "make undeploy KEEP_VOLUMES=true". Pods that run on them go
on; but until "make deploy" brings us back, no pod on them can start or end, and no volume can be made, grown or deleted.
END
  exit 1
fi

plugins=$(folder_of plugins)
home=$(folder_of volumes)
kind=$(setting_of DRIVER_KIND)
group=$(setting_of LVM_VOLUME_GROUP)
classes=$(list_classes | grep -vxE 'elastic-local(-csi)?' || true)

kubectl delete --ignore-not-found --filename "$(dirname "$0")/../deploy.yaml"

cat << END

elastic-local is removed. What stays:
END
if [ -n "$volumes" ]; then
  cat << END
- $(echo "$volumes" | wc -l) PersistentVolumes and their claims and data. Pods that use them keep running. "make deploy" resumes all of it.
END
fi
for claim in $waiting; do echo "- claim $claim, which waits for a volume: kubectl delete pvc --namespace ${claim%/*} ${claim#*/}"; done
for class in $classes; do echo "- StorageClass $class: kubectl delete storageclass $class"; done
cat << END
- on each node, the driver: rm -r ${plugins:-/usr/libexec/kubernetes/kubelet-plugins/volume/exec}/volumes.k8s.elastic.co~elastic-local
END
[ -z "$volumes" ] || exit 0
home=${home:-/mnt/elastic-local-volumes}
group=${group:-elastic-local-vg}
case ${kind:-LVM} in
  LVM)
    echo "- on each node, the volume group, with the volumes that were retained: lvs $group, then vgremove $group"
    echo "- on each node, our records: rm -r $home"
    ;;
  *) echo "- on each node, our records and the volumes that were retained: ls $home $home/.elastic-local/loop, then rm -r $home" ;;
esac
echo "- on each node, the socket's folder: rm -r /var/run/elastic-local"
echo "See docs/uninstall.md."
