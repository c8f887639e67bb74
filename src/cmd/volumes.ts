import { growVolume, listVolumes, mustFind, removeVolumes, showVolume } from '../inspect/actions.ts'
import { formatDocument } from '../text/document.ts'
import { defineCommand } from './command.ts'
import { completeVolume, completeVolumes } from './completion/names.ts'
import { adoptFlags, clusterFlags, daemonFlags, outputFlag, ownNodeName, toggle } from './flags.ts'
import { listFlags, showListing } from './listing.ts'
import { visitFlags, withKeeper } from './visit.ts'

const group = 'Inspect volumes'

export const volumesListCommand = defineCommand({
  name: 'volumes list',
  aliases: ['volumes'],
  group,
  summary: "List this node's volumes: size, usage, pods, and what is wrong",
  description:
    'USED and USE% are those of the filesystem, and known only while the volume is mounted; for a directory they are not\n' +
    'known at all, as it shares its disk. PODS counts the pods that see the volume. -o wide adds where it is.\n' +
    '\n' +
    'In JSON and YAML, sizes are bytes as decimal texts.',
  examples: [
    'elastic-local volumes',
    'elastic-local volumes -o wide',
    'elastic-local volumes -o json | jq -r ".volumes[] | select(.problems != []) | .name"',
    'elastic-local volumes --offline --driver-kind LOOP',
  ],
  flags: { ...listFlags, ...visitFlags },
  run: async (call) => await withKeeper(call, false, (visit) => showListing(call, () => listVolumes(visit))),
})

export const volumesShowCommand = defineCommand({
  name: 'volumes show',
  group,
  args: '<name>',
  completeArgs: completeVolume,
  summary: 'Show one volume in full, and what to do about its problems',
  examples: ['elastic-local volumes show pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11'],
  flags: { output: outputFlag('table', 'json', 'yaml', 'jsonpath='), ...visitFlags },
  run: async (call) => await withKeeper(call, false, (visit) => showVolume(visit, call.args[0] ?? '')),
})

export const volumesGrowCommand = defineCommand({
  name: 'volumes grow',
  group,
  changes: true,
  args: '<name> <size>',
  completeArgs: completeVolume,
  summary: 'Grow a volume and its filesystem, mounted or not',
  description:
    'The size is the new total: bytes, or a Kubernetes quantity such as 10Gi. It is rounded up to what the pool\n' +
    'can allocate. A volume that already has that size, or more, stays as it is: volumes never shrink.\n' +
    '\n' +
    "In a cluster, raise the request of the volume's claim instead, so that Kubernetes knows.",
  examples: ['elastic-local volumes grow pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11 20Gi'],
  flags: { output: outputFlag('table', 'json', 'yaml', 'jsonpath='), ...visitFlags },
  run: async (call) => {
    const [name = '', size = ''] = call.args
    return await withKeeper(call, true, (visit) => growVolume(visit, name, size))
  },
})

export const volumesAdoptCommand = defineCommand({
  name: 'volumes adopt',
  group,
  args: '<name>',
  completeArgs: completeVolume,
  summary: 'Print the PersistentVolume for a volume that the cluster does not know, or has on another node',
  description:
    'For a cluster that was recreated on old disks, a volume whose PersistentVolume was deleted, and a node that has another\n' +
    'name or host name than before. Changes nothing; kubectl applies it. The PersistentVolume is retained, whatever its\n' +
    'class says. The claim may be created before or after, with the same class and at most the size.\n' +
    '\n' +
    'If the cluster has a PersistentVolume of that name for another node, that must go first: keep a copy of it, remove\n' +
    'its finalizers, and delete it.',
  examples: [
    'elastic-local volumes adopt pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11 --claim default/data | kubectl apply -f -',
  ],
  flags: {
    output: outputFlag('yaml', 'json'),
    ...visitFlags,
    ...clusterFlags,
    nodeName: daemonFlags.nodeName,
    ...adoptFlags,
  },
  run: async (call) => {
    const { kubeconfig, namespace, nodeName, claim, storageClass } = call.flags
    const { ApiClient, findKubeConfig } = await import('../k8s/client/api.ts')
    const { buildAdoption } = await import('../k8s/node/adopt.ts')
    const api = new ApiClient(findKubeConfig(kubeconfig))
    return await withKeeper(call, false, async ({ keeper, screen, output }) => {
      const { name, sizeBytes, fsType = 'ext4' } = await mustFind(keeper, call.args[0] ?? '')
      const volume = await buildAdoption(api, {
        namespace,
        name,
        sizeBytes,
        fsType,
        node: ownNodeName(nodeName),
        claim,
        storageClass,
      })
      screen.print(formatDocument(output, volume))
      // A daemon of an older version has no place for it.
      await keeper.note(`PersistentVolume for volume ${name} (volumes adopt)`).catch(() => {})
      return 0
    })
  },
})

export const volumesRemoveCommand = defineCommand({
  name: 'volumes remove',
  group,
  changes: true,
  args: '<...names>',
  completeArgs: completeVolumes,
  summary: 'Remove volumes and all data in them',
  description:
    'Asks first. Refuses a volume that is mounted. Without a terminal to ask on, it needs --yes. A volume that is not\n' +
    'there counts as removed.\n' +
    '\n' +
    'In a cluster, delete the claim or the PersistentVolume instead, so that Kubernetes knows.',
  examples: [
    'elastic-local volumes remove pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11',
    'elastic-local volumes remove --yes web-0 web-1',
  ],
  flags: {
    yes: toggle('yes', 'remove without asking'),
    output: outputFlag('table', 'json', 'yaml', 'jsonpath='),
    ...visitFlags,
  },
  run: async (call) =>
    await withKeeper(call, true, (visit) => removeVolumes(visit, call.args, { yes: call.flags.yes })),
})
