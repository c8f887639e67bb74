import * as assert from 'uvu/assert'
import { claimsPath, ledgerPath, namespace, volumesPath } from '../../test/memory-cluster.ts'
import { ago, classesPath, csiDriverPath, nodePath, podsPath, World } from '../../test/overview-world.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { ApiError } from '../k8s/client/api.ts'
import type { FrontName } from '../k8s/fronts/front.ts'
import { VolumeError } from '../volume/errors.ts'
import { explain, type Question } from './explain.ts'
import type { Link, LinkName } from './records.ts'

const claimPath = (name: string) => `${claimsPath}/${name}`
const volumePath = (name: string) => `${volumesPath}/${name}`

/** A situation, and the link at which its chain stops. */
interface Case {
  title: string
  /** Breaks a cluster in which all is well. What it gives is the name of what is asked for: `data` by default. */
  set(world: World): unknown
  kind?: Question['kind']
  at: LinkName
  status?: Link['status']
  message: RegExp
  /** Of one of the details. */
  detail?: RegExp
  advice?: RegExp
}

const tooFull = '0/2 nodes are available: 2 node(s) did not have enough free storage.'
const mountFailed = (volume: string, reason: string) =>
  `MountVolume.SetUp failed for volume "${volume}" : mount command failed, status: Failure, reason: ${reason}`

/** A claim that waits for a node, and its pod. */
function placing(
  world: World,
  more: Parameters<World['addClaim']>[1] = {},
  unschedulable: string | undefined = tooFull,
) {
  world.addClaim('data', more)
  world.addPod('web', { claims: ['data'], ...(unschedulable ? { unschedulable } : {}) })
}

/** A volume on node-1 that a pod wants, which has not got it. */
function mounting(world: World, front: FrontName = 'flex'): string {
  const volume = world.addBound('data', 'node-1', front)
  world.addPod('web', { claims: ['data'], node: 'node-1', waiting: 'ContainerCreating' })
  return volume
}

/** A PV on node-1 that its daemon has not made yet. */
function making(world: World): string {
  const volume = world.addBound('data', 'node-1')
  world.promise('node-1', volume, { pendingFor: 'default/data' })
  return volume
}

/** A claim that is gone, and its PV on its way out. */
function removing(world: World): string {
  const volume = world.addBound('data', 'node-1')
  world.server.delete(claimPath('data'))
  world.server.change(volumePath(volume), { status: { phase: 'Released' } })
  world.server.delete(volumePath(volume))
  return volume
}

const cases: Case[] = [
  {
    title: 'a claim that no pod uses yet waits for one',
    set: (world) => void world.addClaim('data'),
    at: 'scheduling',
    status: 'wait',
    message: /no pod uses the claim yet/,
    advice: /start a pod/,
  },
  {
    title: 'a claim that no node has room for says what each has',
    set: (world) => placing(world, { size: '1Ti' }),
    at: 'scheduling',
    message: /no node can take it/,
    detail: /^node-1, node-2: has 10 GiB of 10 GiB free, and 1 TiB is needed$/,
    advice: /Make room/,
  },
  {
    title: "a claim whose pod fits no node with room says the scheduler's words",
    set: (world) => placing(world, {}, '0/2 nodes are available: 2 Insufficient cpu.'),
    at: 'scheduling',
    message: /there is room, but no node that has it fits pod web/,
    detail: /Insufficient cpu/,
    advice: /what else the pod needs/,
  },
  {
    title: 'a pod that the scheduler has not seen yet is waited for',
    set: (world) => placing(world, {}, ''),
    at: 'scheduling',
    status: 'wait',
    message: /has not placed pod web yet/,
  },
  {
    title: 'a pod that names its node itself has nobody select one',
    set: (world) => {
      world.addClaim('data')
      world.addPod('web', { claims: ['data'], node: 'node-1' })
    },
    at: 'scheduling',
    message: /pod web names node node-1 itself/,
    advice: /nodeSelector/,
  },
  {
    title: 'no capacity object: the scheduler knows of no room',
    set: (world) => {
      world.untell()
      placing(world)
    },
    at: 'scheduling',
    message: /no node can take it/,
    detail: /there is no CSIStorageCapacity object for the class/,
  },
  {
    title: 'no pool of the kind that the class wants',
    set: (world) => {
      world.addClass('loop', { parameters: { driverKind: 'LOOP' } })
      placing(world, { class: 'loop' })
    },
    at: 'scheduling',
    message: /no node can take it/,
    detail: /node-1, node-2: has pool vg \(LVM\), and the class wants a pool of driverKind LOOP/,
    advice:
      /^Give a node a pool of driverKind LOOP, or recreate the claim with a class whose pool exists: elastic-local\. /,
  },
  {
    title: 'no room on one node, and on another no pool of the kind that the class wants',
    set: (world) => {
      world.addClass('lvm', { parameters: { driverKind: 'LVM' } })
      const path = ledgerPath('node-2')
      const pool = JSON.parse(world.server.find(path)?.data['_pool.default'])
      world.server.change(path, { data: { '_pool.default': JSON.stringify({ ...pool, driverKind: 'LOOP' }) } })
      placing(world, { class: 'lvm', size: '1Ti' })
    },
    at: 'scheduling',
    message: /no node can take it/,
    detail: /^node-2: has pool vg \(LOOP\)/,
    advice: /^Make room \(delete claims, add a disk to a pool\), or ask for less\. /,
  },
  {
    title: 'nodes that are away, cordoned, without a daemon, without a label, or none of the allowed, say so',
    set: (world) => {
      world.addClass('on-1-to-4', {
        allowedTopologies: [
          {
            matchLabelExpressions: [
              { key: 'kubernetes.io/hostname', values: ['host-node-1', 'host-node-3', 'host-bare'] },
            ],
          },
        ],
      })
      world.addNode('node-3')
      world.server.change(nodePath('node-1'), { status: { conditions: [{ type: 'Ready', status: 'Unknown' }] } })
      world.server.change(nodePath('node-3'), { spec: { unschedulable: true } })
      world.server.create('/api/v1/nodes', {
        metadata: { name: 'bare', labels: { 'kubernetes.io/hostname': 'host-bare' } },
        status: { conditions: [{ type: 'Ready', status: 'True' }] },
      })
      placing(world, { class: 'on-1-to-4' })
    },
    at: 'scheduling',
    message: /no node can take it/,
    detail:
      /^(bare: has no elastic-local daemon|node-1: is not ready|node-2: is not in the class's allowedTopologies|node-3: is cordoned)$/,
  },
  {
    title: 'a claim that names no class, where none is the default',
    set: (world) => void world.addClaim('data', { class: '' }),
    at: 'class',
    message: /names no StorageClass/,
    advice: /Name a class of ours: elastic-local/,
  },
  {
    title: 'a class that is not there',
    set: (world) => void world.addClaim('data', { class: 'elastic-locl' }),
    at: 'class',
    message: /there is no StorageClass elastic-locl/,
    advice: /Name a class of ours: elastic-local/,
  },
  {
    title: 'a class of somebody else',
    set: (world) => {
      world.server.create(classesPath, { metadata: { name: 'nfs' }, provisioner: 'nfs.csi.k8s.io' })
      world.addClaim('data', { class: 'nfs' })
    },
    at: 'class',
    message: /StorageClass nfs is not ours: its provisioner is nfs\.csi\.k8s\.io/,
  },
  {
    title: 'a class with a typo in a parameter',
    set: (world) => {
      world.addClass('typo', { parameters: { fstype: 'xfs' } })
      world.addClaim('data', { class: 'typo' })
    },
    at: 'class',
    message: /its parameters must be of fsType, .*: one is "fstype"/,
    advice: /delete it, and recreate it/,
  },
  {
    title: 'a class with a mount option that reaches further',
    set: (world) => {
      world.addClass('dev', { mountOptions: ['dev'] })
      world.addClaim('data', { class: 'dev' })
    },
    at: 'class',
    message: /Cannot use StorageClass dev as a volume cannot be created with it/,
  },
  {
    title: 'volumeMode Block of a class of FlexVolumes',
    set: (world) => {
      world.addClass('flex', { parameters: { front: 'flex' } })
      world.addClaim('data', { class: 'flex', spec: { volumeMode: 'Block' } })
    },
    at: 'claim',
    message: /volumeMode must be Filesystem, as FlexVolumes are no block devices/,
    advice: /delete it, and recreate it/,
  },
  {
    title: 'access modes of several nodes',
    set: (world) => void world.addClaim('data', { spec: { accessModes: ['ReadWriteMany'] } }),
    at: 'claim',
    message: /accessModes must be of ReadWriteOnce, ReadWriteOncePod.*ReadWriteMany/,
  },
  {
    title: 'a selector',
    set: (world) => void world.addClaim('data', { spec: { selector: { matchLabels: { a: 'b' } } } }),
    at: 'claim',
    message: /it has a selector/,
  },
  {
    title: 'a data source',
    set: (world) => void world.addClaim('data', { spec: { dataSource: { kind: 'PersistentVolumeClaim', name: 'a' } } }),
    at: 'claim',
    message: /it has a data source/,
  },
  {
    title: 'no provisioner ever led',
    set: (world) => {
      world.addClaim('data', { selected: 'node-1' })
      world.lead(ago(1), '')
      world.breakComponent('provisioner')
    },
    at: 'reservation',
    message: /no provisioner is running: none leads/,
    advice: /kubectl --namespace elastic-local describe deployment elastic-local-provisioner/,
  },
  {
    title: 'the provisioner is silent, and its pod crashes',
    set: (world) => {
      world.addClaim('data', { selected: 'node-1' })
      world.lead(ago(300))
      world.breakComponent('provisioner', 'CrashLoopBackOff')
    },
    at: 'reservation',
    message: /no provisioner is running: the last leader reported 5m ago/,
    detail: /pod provisioner \(CrashLoopBackOff; restarted 3 times\)/,
    advice: /kubectl --namespace elastic-local logs provisioner/,
  },
  {
    title: 'the provisioner is at work on it',
    set: (world) => void world.addClaim('data', { selected: 'node-1' }),
    at: 'reservation',
    status: 'wait',
    message: /requested from the provisioner just now/,
  },
  {
    title: 'Immediate binding, and no node with room',
    set: (world) => {
      world.addClass('immediate', { volumeBindingMode: 'Immediate' })
      world.addClaim('data', { class: 'immediate', size: '1Ti' })
      const words = 'Cannot place 1 TiB on node node-1 as its pool vg has 10 GiB of 10 GiB free.'
      world.say(claimPath('data'), 'ProvisioningFailed', words, {
        component: 'elastic-local-provisioner',
        secondsAgo: 900,
      })
    },
    at: 'reservation',
    message: /Cannot place 1 TiB on node node-1/,
    detail: /node-1, node-2: has 10 GiB of 10 GiB free/,
    advice: /Make room/,
  },
  {
    title: 'a node that was selected, and had no room when it was asked',
    set: (world) => {
      placing(world, { size: '1Ti' })
      const words = 'Cannot place 1 TiB on node node-1 as its pool vg has 10 GiB of 10 GiB free.'
      world.say(claimPath('data'), 'ProvisioningFailed', words, { component: 'elastic-local-provisioner' })
    },
    at: 'scheduling',
    message: /no node can take it/,
    detail: /^the provisioner: Cannot place/,
  },
  {
    title: 'a ledger that cannot be read',
    set: (world) => {
      world.addClaim('data', { selected: 'node-1' })
      world.server.change(ledgerPath('node-1'), { data: { '_pool.default': 'rubbish' } })
    },
    at: 'reservation',
    message: /Cannot read _pool.default in ConfigMap elastic-local\/elastic-local.node-1.ledger/,
  },
  {
    title: 'a PersistentVolume that is for another claim',
    set: (world) => {
      const volume = world.addClaim('data', { selected: 'node-1' })
      world.promise('node-1', volume, { pendingFor: 'default/data' })
      const other = world.addBound('other', 'node-1')
      const spec = world.server.find(volumePath(other))?.spec
      world.server.create(volumesPath, { metadata: { name: volume }, spec })
    },
    at: 'persistent volume',
    message: /is not for this claim/,
    advice: /kubectl delete pv pvc-/,
  },
  {
    title: 'a promise, and nobody who makes the PersistentVolume',
    set: (world) => {
      world.promise('node-1', world.addClaim('data', { selected: 'node-1' }), { pendingFor: 'default/data' })
      world.lead(ago(300))
    },
    at: 'persistent volume',
    message: /no provisioner is running/,
  },
  {
    title: 'a claim that names a PersistentVolume which is not there',
    set: (world) => void world.addClaim('data', { spec: { volumeName: 'by-hand' } }),
    at: 'persistent volume',
    message: /the claim names by-hand, which does not exist/,
  },
  {
    title: 'a Lost claim whose data is on a node still',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.server.change(claimPath('data'), { status: { phase: 'Lost' } })
      world.server.change(volumePath(volume), { metadata: { finalizers: [] } })
      world.server.delete(volumePath(volume))
    },
    at: 'claim',
    message: /it is Lost: its PersistentVolume pvc-\S+ is gone/,
    advice: /still on node node-1: "kubectl exec .* volumes adopt pvc-\S+ --claim default\/data"/,
  },
  {
    title: 'a Lost claim whose data is nowhere',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.server.change(claimPath('data'), { status: { phase: 'Lost' } })
      world.server.change(volumePath(volume), { metadata: { finalizers: [] } })
      world.server.delete(volumePath(volume))
      world.server.change(ledgerPath('node-1'), { data: { [volume]: null } })
    },
    at: 'claim',
    message: /it is Lost/,
    advice: /Delete the claim, and restore the data/,
  },
  {
    title: 'no daemon on the node',
    set: (world) => {
      making(world)
      world.removeDaemon('node-1')
    },
    at: 'node',
    message: /there is no elastic-local daemon on node node-1: none has ever reported/,
    advice: /describe daemonset elastic-local-daemon/,
  },
  {
    title: 'a daemon that runs in no pod, and is heard',
    set: (world) => {
      world.addBound('data', 'node-1')
      world.breakComponent('daemon-node-1')
    },
    at: 'node',
    status: 'ok',
    message: /node node-1 is ready/,
  },
  {
    title: 'a daemon that is not heard any more, in no pod',
    set: (world) => {
      making(world)
      world.breakComponent('daemon-node-1')
      world.hear('node-1', ago(300))
    },
    at: 'node',
    message: /the daemon of node node-1 last reported 5m ago/,
    advice: /^Start it\. Where a DaemonSet does that: "kubectl --namespace elastic-local describe daemonset/,
  },
  {
    title: 'a daemon whose pod is well and which is not heard any more',
    set: (world) => {
      making(world)
      world.hear('node-1', ago(300))
    },
    at: 'node',
    message: /the daemon of node node-1 last reported 5m ago/,
    advice: /kubectl --namespace elastic-local logs daemon-node-1/,
  },
  {
    title: 'a daemon in no pod that did not find its pool',
    set: (world) => {
      making(world)
      world.removeDaemon('node-1')
      world.say(nodePath('node-1'), 'PoolNotUsable', 'Cannot read volume group vg; make it')
    },
    at: 'node',
    message: /the daemon of node node-1 cannot use its pool: Cannot read volume group vg/,
    advice: /^Once that is fixed, restart the daemon of node node-1\.$/,
  },
  {
    title: 'a daemon that crashes',
    set: (world) => {
      making(world)
      world.breakComponent('daemon-node-1', 'CrashLoopBackOff')
    },
    at: 'node',
    message: /the daemon of node node-1 is unhealthy: pod daemon-node-1 \(CrashLoopBackOff; restarted 3 times\)/,
    advice: /kubectl --namespace elastic-local logs daemon-node-1/,
  },
  {
    title: 'no daemon, where the volume is made and its pod runs: only a warning',
    set: (world) => {
      world.addBound('data', 'node-1')
      world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
      world.removeDaemon('node-1')
    },
    at: 'node',
    status: 'warn',
    message: /there is no elastic-local daemon on node node-1/,
  },
  {
    title: 'a daemon that has not reported its pool',
    set: (world) => {
      making(world)
      world.server.delete(ledgerPath('node-1'))
    },
    at: 'node',
    message: /its daemon has not reported its pool/,
    advice: /kubectl exec --namespace elastic-local daemon-node-1 -- elastic-local doctor/,
  },
  {
    title: 'a node that is away',
    set: (world) => {
      mounting(world)
      const conditions = [
        {
          type: 'Ready',
          status: 'Unknown',
          message: 'Kubelet stopped posting node status.',
          lastTransitionTime: ago(180),
        },
      ]
      world.server.change(nodePath('node-1'), { status: { conditions } })
    },
    at: 'node',
    message: /node node-1 is away: not ready for 3m \(Kubelet stopped posting node status\.\)/,
    advice: /Bring it back/,
  },
  {
    title: 'a node that is gone',
    set: (world) => {
      mounting(world)
      world.server.delete(nodePath('node-1'))
    },
    at: 'node',
    message: /node node-1 is gone/,
    advice: /If it never does, delete their claims/,
  },
  {
    title: 'a pool whose disk or group the daemon did not find',
    set: (world) => {
      making(world)
      world.breakComponent('daemon-node-1', 'CrashLoopBackOff')
      world.say(
        nodePath('node-1'),
        'PoolNotUsable',
        'Cannot read volume group vg; create it with "elastic-local create-vg --lvm-volume-group vg <disk>…"',
      )
    },
    at: 'node',
    message:
      /the daemon of node node-1 cannot use its pool: Cannot read volume group vg; create it with "elastic-local create-vg/,
    advice: /within five minutes; at once after "kubectl --namespace elastic-local delete pod daemon-node-1"/,
  },
  {
    title: 'a claim of a cluster in which a pool cannot be used',
    set: (world) => {
      placing(world, { size: '1Ti' })
      world.server.delete(ledgerPath('node-2'))
      world.breakComponent('daemon-node-2', 'CrashLoopBackOff')
      world.say(
        nodePath('node-2'),
        'PoolNotUsable',
        'Cannot read volume group vg; create it with "elastic-local create-vg --lvm-volume-group vg <disk>…"',
      )
    },
    at: 'scheduling',
    message: /no node can take it/,
    detail: /^node-2: cannot use its pool: Cannot read volume group vg/,
  },
  {
    title: 'a PersistentVolume that names no node',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.server.change(volumePath(volume), { metadata: { labels: null } })
    },
    at: 'node',
    message: /names no node/,
    advice: /--takeover/,
  },
  {
    title: "a pool with another id than the node's volumes were made in",
    set: (world) => {
      making(world)
      world.say(
        nodePath('node-1'),
        'WrongPool',
        'Cannot use pool vg of node node-1 as it is not the one that its volumes were created in (a): it is b. Is its disk mounted? If the disk was replaced for good, delete ConfigMap elastic-local.node-1.ledger.',
      )
    },
    at: 'node',
    message: /it is not the one that its volumes were created in.*delete ConfigMap elastic-local.node-1.ledger/,
    advice: /Nothing is created there/,
  },
  {
    title: 'a pool that is not usable',
    set: (world) => {
      making(world)
      world.say(
        nodePath('node-1'),
        'PoolProblem',
        'Pool vg (LVM): 1 of its disks are missing, so LVM creates and grows no volume in it.',
      )
    },
    at: 'node',
    status: 'warn',
    message: /1 of its disks are missing/,
    advice: /elastic-local pools/,
  },
  {
    title: 'a volume that the daemon has not made yet',
    set: (world) => void making(world),
    at: 'volume',
    status: 'wait',
    message: /the daemon has not created it yet/,
  },
  {
    title: 'a volume that cannot be made',
    set: (world) => {
      world.say(volumePath(making(world)), 'VolumeNotMade', 'Cannot give pvc-1 1 KiB as the thin pool is full.')
    },
    at: 'volume',
    message: /the thin pool is full/,
    advice: /retries automatically; "kubectl exec .* elastic-local doctor"/,
  },
  {
    title: 'a volume that could not be made at first, and was made since',
    set: (world) => {
      const words = 'Cannot give pvc-1 1 KiB as the thin pool is full.'
      world.say(volumePath(world.addBound('data', 'node-1')), 'VolumeNotMade', words)
    },
    at: 'volume',
    status: 'ok',
    message: /created/,
  },
  {
    title: 'a volume of the predecessor, without --takeover',
    set: (world) => {
      const words =
        "Cannot use pvc-1 as /dev/vg/pvc-1 exists without our mark. If it is the predecessor's, start the daemon with --takeover (docs/takeover.md)."
      world.say(volumePath(making(world)), 'VolumeNotMade', words)
    },
    at: 'volume',
    message: /--takeover/,
  },
  {
    title: 'a volume whose data is lost, and what lets it be recreated',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      const words = `Cannot find volume ${volume} on node node-1, where it was created: its data is lost, or its disk is missing.`
      world.say(volumePath(volume), 'VolumeNotMade', words)
    },
    at: 'volume',
    message: /its data is lost, or its disk is missing/,
    advice: /kubectl annotate pv pvc-\S+ volumes\.k8s\.elastic\.co\/make-lost-anew=true/,
  },
  {
    title: 'a volume that was recreated since',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.say(volumePath(volume), 'VolumeNotMade', 'its data is lost', { secondsAgo: 60 })
      world.say(volumePath(volume), 'VolumeMadeAnew', 'Recreated empty', { secondsAgo: 30 })
    },
    at: 'volume',
    status: 'ok',
    message: /created, 512 MiB in pool vg/,
  },
  {
    title: 'a volume whose filesystem is lost, as its daemon says when it looks around',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      const words = `Cannot mount ${volume} as /dev/vg/x must hold one of ext4, xfs, btrfs: it is blank: its filesystem is lost.`
      world.say(volumePath(volume), 'VolumeLost', words, { secondsAgo: 500 })
    },
    at: 'volume',
    message: /its filesystem is lost/,
    advice: /^Restore it from a backup, or delete its claim; "kubectl exec .* volumes show pvc-/,
  },
  {
    title: 'a volume whose unmounting fails',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      const words = `Cannot unmount ${volume} from /pods/a: target is busy.`
      world.say(volumePath(volume), 'VolumeNotUnmounted', words)
    },
    at: 'volume',
    status: 'warn',
    message: /target is busy/,
    advice: /retries automatically; "kubectl exec .* volumes show pvc-\S+" says what uses it/,
  },
  {
    title: 'words that were said long ago are over',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.say(volumePath(volume), 'VolumeNotMade', 'its data is lost', { secondsAgo: 600 })
      world.say(nodePath('node-1'), 'WrongPool', 'another pool', { secondsAgo: 600 })
    },
    at: 'volume',
    status: 'ok',
    message: /created/,
  },
  {
    title: 'a mount that is refused',
    set: (world) => {
      const volume = mounting(world)
      const reason = `Cannot mount ${volume} as /dev/vg/x must hold one of ext4, xfs, btrfs: it holds nothing.`
      world.say(`${podsPath}/web`, 'FailedMount', mountFailed(volume, reason), { component: 'kubelet' })
    },
    at: 'mount',
    message: /^pod web: Cannot mount pvc-\S+ as \/dev\/vg\/x must hold/,
    advice: /elastic-local volumes show pvc-/,
  },
  {
    title: 'a kubelet that does not find the driver: the wrong plugin folder',
    set: (world) => {
      const volume = mounting(world)
      const words = `MountVolume.NewMounter initialization failed for volume "${volume}" : no volume plugin matched name: flexvolume-volumes.k8s.elastic.co/elastic-local`
      world.say(`${podsPath}/web`, 'FailedMount', words, { component: 'kubelet' })
    },
    at: 'mount',
    message: /no volume plugin matched/,
    advice: /--volume-plugin-dir is not the folder/,
  },
  {
    title: 'a kubelet with which the CSI driver is not registered',
    set: (world) => {
      mounting(world, 'csi')
      const words =
        'MountVolume.MountDevice failed for volume "pvc" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name elastic-local.volumes.k8s.elastic.co not found in the list of registered CSI drivers'
      world.say(`${podsPath}/web`, 'FailedMount', words, { component: 'kubelet' })
    },
    at: 'mount',
    message: /not found in the list of registered CSI drivers/,
    advice: /log of the daemon of node node-1: it registers with the kubelet if it runs with --csi/,
  },
  {
    title: 'a kubelet that has not registered the CSI driver',
    set: (world) => {
      mounting(world, 'csi')
      world.unregister('node-1')
    },
    at: 'registration',
    message: /the kubelet of node node-1 does not know our CSI driver: its CSINode has no elastic-local\.volumes/,
    advice: /log of its daemon for "registration".*"kubectl exec .* elastic-local doctor"/,
  },
  {
    title: 'a kubelet that has forgotten the CSI driver, where the pod has its volume: only a warning',
    set: (world) => {
      world.addBound('data', 'node-1', 'csi')
      world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
      world.unregister('node-1')
    },
    at: 'registration',
    status: 'warn',
    message: /does not know our CSI driver/,
  },
  {
    title: 'a volume of CSI on a node whose daemon does not serve that',
    set: (world) => {
      mounting(world, 'csi')
      const path = ledgerPath('node-1')
      const pool = JSON.parse(world.server.find(path)?.data['_pool.default'])
      world.server.change(path, { data: { '_pool.default': JSON.stringify({ ...pool, fronts: ['flex'] }) } })
    },
    at: 'registration',
    message: /the daemon of node node-1 does not serve CSI/,
    advice: /Start it with --csi/,
  },
  {
    title: 'a volume of CSI without a CSIDriver object',
    set: (world) => {
      mounting(world, 'csi')
      world.server.delete(csiDriverPath)
    },
    at: 'registration',
    message: /there is no CSIDriver object .*: pods with CSI volumes wait for an attachment that never comes/,
    advice: /Apply deploy\.yaml again/,
  },
  {
    title: 'a CSIDriver object by which Kubernetes waits for an attachment',
    set: (world) => {
      mounting(world, 'csi')
      world.server.change(csiDriverPath, { spec: { attachRequired: true } })
    },
    at: 'registration',
    message: /must have attachRequired: false: pods wait for a VolumeAttachment/,
    advice: /kubectl delete csidriver elastic-local\.volumes/,
  },
  {
    title: 'a pod of which no container mounts its claim',
    set: (world) => {
      world.addBound('data', 'node-1')
      const containers = [{ name: 'app', volumeMounts: [{ name: 'other', mountPath: '/data' }] }]
      world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running', spec: { containers } })
    },
    at: 'mount',
    status: 'warn',
    message: /^pod web: it names the claim, but no container mounts it/,
    advice: /Give a container of the pod a volumeMount/,
  },
  {
    title: 'a mount by CSI that is refused',
    set: (world) => {
      const volume = mounting(world, 'csi')
      const words = `MountVolume.SetUp failed for volume "${volume}" : rpc error: code = Internal desc = Cannot mount ${volume} as its disk is away.`
      world.say(`${podsPath}/web`, 'FailedMount', words, { component: 'kubelet' })
    },
    at: 'mount',
    message: /^pod web: Cannot mount pvc-\S+ as its disk is away/,
    advice: /elastic-local volumes show pvc-/,
  },
  {
    title: 'a block device that is refused',
    set: (world) => {
      const volume = mounting(world, 'csi')
      const words = `MapVolume.MapPodDevice failed for volume "${volume}" : rpc error: code = Internal desc = Cannot mount ${volume} as its disk is away.`
      world.say(`${podsPath}/web`, 'FailedMapVolume', words, { component: 'kubelet' })
    },
    at: 'mount',
    message: /^pod web: Cannot mount pvc-\S+ as its disk is away/,
  },
  {
    title: 'a driver that finds no daemon',
    set: (world) => {
      const reason =
        'The elastic-local daemon of this node is not running: there is no socket /var/run/elastic-local/socket (POST /mount).'
      world.say(`${podsPath}/web`, 'FailedMount', mountFailed(mounting(world), reason), { component: 'kubelet' })
    },
    at: 'mount',
    message: /is not running: there is no socket/,
    advice: /Start the daemon of node node-1/,
  },
  {
    title: 'a pod that is about to have its volume',
    set: (world) => void mounting(world),
    at: 'mount',
    status: 'wait',
    message: /the kubelet of node node-1 is about to mount it/,
  },
  {
    title: 'a second pod that cannot go where the volume is',
    set: (world) => {
      world.addBound('data', 'node-1')
      world.server.change(nodePath('node-1'), { spec: { unschedulable: true } })
      world.addPod('web', {
        claims: ['data'],
        unschedulable:
          "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) were unschedulable.",
      })
    },
    at: 'mount',
    message: /pod web: it is not scheduled: .*node affinity/,
    advice: /It can run only where its volume is, on node node-1/,
  },
  {
    title: 'a pod with its volume that is not well for other reasons',
    set: (world) => {
      world.addBound('data', 'node-1')
      world.addPod('web', { claims: ['data'], node: 'node-1', waiting: 'ImagePullBackOff' })
    },
    at: 'pod',
    status: 'warn',
    message: /ImagePullBackOff/,
    advice: /not about its volume/,
  },
  {
    title: 'growth that its node has no room for',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.server.change(claimPath('data'), {
        spec: { resources: { requests: { storage: '1Ti' } } },
        status: {
          allocatedResources: { storage: '1Ti' },
          allocatedResourceStatuses: { storage: 'NodeResizeInfeasible' },
          conditions: [
            {
              type: 'NodeResizeError',
              status: 'True',
              message: `failed to expand pvc with expandfs command failed, status: Failure, reason: Cannot grow ${volume} from 512 MiB (536870912 bytes) to 1 TiB (1099511627776 bytes) as pool vg of node node-1 has 9.5 GiB free.`,
            },
          ],
        },
      })
    },
    at: 'growth',
    message: /it does not grow from 512 MiB to 1 TiB: Cannot grow pvc-\S+ from/,
    advice: /Lower the request to cancel it \(to more than its 512 MiB: .*, or make room in pool vg/,
  },
  {
    title: 'growth of a volume of CSI that there is no room for',
    set: (world) => {
      world.addBound('data', 'node-1', 'csi')
      world.server.change(claimPath('data'), {
        spec: { resources: { requests: { storage: '1Ti' } } },
        status: {
          allocatedResourceStatuses: { storage: 'ControllerResizeInfeasible' },
          conditions: [
            { type: 'ControllerResizeError', status: 'True', message: 'Cannot grow it as pool vg is full.' },
          ],
        },
      })
    },
    at: 'growth',
    message: /it does not grow from 512 MiB to 1 TiB: Cannot grow it as pool vg is full/,
    advice: /Lower the request to cancel it/,
  },
  {
    title: 'growth of a volume of CSI that was granted',
    set: (world) => {
      world.addBound('data', 'node-1', 'csi')
      world.server.change(claimPath('data'), {
        spec: { resources: { requests: { storage: '1Gi' } } },
        status: { allocatedResourceStatuses: { storage: 'ControllerResizeInProgress' } },
      })
    },
    at: 'growth',
    status: 'wait',
    message: /it grows from 512 MiB to 1 GiB; the daemon of node node-1 does it/,
  },
  {
    title: 'growth of a volume of CSI that could not be made by now',
    set: (world) => {
      world.addBound('data', 'node-1', 'csi')
      world.server.change(claimPath('data'), {
        spec: { resources: { requests: { storage: '1Gi' } } },
        status: {
          allocatedResourceStatuses: { storage: 'ControllerResizeInProgress' },
          conditions: [{ type: 'Resizing', status: 'True', message: 'Cannot grow it while it is mounted.' }],
        },
      })
    },
    at: 'growth',
    message: /it does not grow from 512 MiB to 1 GiB yet: Cannot grow it while it is mounted/,
    advice: /tried again by itself/,
  },
  {
    title: 'growth that waits for a pod',
    set: (world) => {
      world.addBound('data', 'node-1')
      world.server.change(claimPath('data'), {
        spec: { resources: { requests: { storage: '1Gi' } } },
        status: { allocatedResourceStatuses: { storage: 'NodeResizePending' } },
      })
    },
    at: 'growth',
    status: 'wait',
    message: /it grows from 512 MiB to 1 GiB when a pod mounts it/,
  },
  {
    title: 'a claim that is deleted while pods use it',
    set: (world) => {
      world.addBound('data', 'node-1')
      world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
      world.server.change(claimPath('data'), { metadata: { finalizers: ['kubernetes.io/pvc-protection'] } })
      world.server.delete(claimPath('data'))
    },
    at: 'removal',
    status: 'wait',
    message: /the claim is deleted when its pods are gone: web/,
    advice: /Delete those pods/,
  },
  {
    title: 'a deletion that waits for the daemon',
    set: removing,
    at: 'removal',
    status: 'wait',
    message: /the daemon is removing it/,
  },
  {
    title: 'a deletion that waits for a node that is away',
    set: (world) => {
      const volume = removing(world)
      world.server.change(nodePath('node-1'), { status: { conditions: [{ type: 'Ready', status: 'False' }] } })
      return volume
    },
    at: 'removal',
    message: /it waits for its node: node node-1 is away/,
    advice: /Bring it back/,
  },
  {
    title: 'a deletion that waits for the grace time of a node that is gone',
    set: (world) => {
      const volume = removing(world)
      world.server.delete(nodePath('node-1'))
      return volume
    },
    at: 'removal',
    status: 'wait',
    message: /node node-1 is gone.*released after the grace time/,
  },
  {
    title: 'a deletion that waits for a daemon which is not there',
    set: (world) => {
      world.removeDaemon('node-1')
      return removing(world)
    },
    at: 'removal',
    message: /no elastic-local daemon on node node-1/,
  },
  {
    title: 'a volume that cannot be removed',
    set: (world) => {
      const volume = removing(world)
      world.say(volumePath(volume), 'VolumeNotRemoved', 'Cannot wipe /dev/vg/pvc-1: Input/output error')
      return volume
    },
    at: 'removal',
    message: /Cannot wipe/,
    advice: /retries automatically/,
  },
  {
    title: "a deletion that somebody else's finalizer holds",
    set: (world) => {
      const volume = removing(world)
      world.server.change(volumePath(volume), { metadata: { finalizers: ['backup.example.com/hold'] } })
      return volume
    },
    at: 'removal',
    status: 'wait',
    message: /finalizer backup\.example\.com\/hold holds it, which is not ours/,
  },
  {
    title: 'a retained volume without its claim',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.server.change(volumePath(volume), {
        spec: { persistentVolumeReclaimPolicy: 'Retain' },
        status: { phase: 'Released' },
      })
      world.server.delete(claimPath('data'))
      return volume
    },
    at: 'removal',
    status: 'ok',
    message: /kept: its class says Retain/,
    advice: /kubectl delete pv/,
  },
  {
    title: 'an orphan: a volume whose PersistentVolume is gone',
    set: (world) => {
      const volume = world.addBound('data', 'node-1')
      world.server.delete(claimPath('data'))
      world.server.change(volumePath(volume), { metadata: { finalizers: [] } })
      world.server.delete(volumePath(volume))
      return volume
    },
    at: 'persistent volume',
    message: /but its data is still there: the volume is orphaned/,
    advice: /volumes remove pvc-\S+" removes its data; .*volumes adopt/,
  },
  {
    title: 'a pod that names our driver itself',
    set: (world) => {
      const flexVolume = { driver: 'volumes.k8s.elastic.co/elastic-local', options: {} }
      world.addPod('thief', { node: 'node-1', spec: { volumes: [{ name: 'theirs', flexVolume }] } })
      const reason =
        'Cannot mount theirs as only a pod whose claim is bound to it may use it; use the claim instead of a flexVolume.'
      world.say(`${podsPath}/thief`, 'FailedMount', mountFailed('theirs', reason), { component: 'kubelet' })
      return 'thief'
    },
    at: 'mount',
    message: /volume theirs of pod thief is a flexVolume of our driver, which only claims may use/,
    detail: /only a pod whose claim is bound to it may use it/,
    advice: /Use a persistentVolumeClaim in the pod/,
  },
  {
    title: 'a pod that names a claim which is not there',
    set: (world) => {
      world.addPod('web', { claims: ['dta'], unschedulable: 'persistentvolumeclaim "dta" not found' })
      return 'web'
    },
    at: 'claim',
    message: /pod web names claim default\/dta, which is not there/,
  },
]

const test = suite('explain')

for (const { title, set, kind, at, status = 'fail', message, detail, advice } of cases)
  test(`explain() says of ${title}`, async () => {
    const world = new World()
    const given = set(world)
    const name = typeof given === 'string' ? given : 'data'
    const chains = explain(await world.read(), { namespace: 'default', name, ...(kind ? { kind } : {}) })
    const links = chains.flatMap(({ links }) => links)
    const found = links.find(({ link }) => link === at)
    const shown = JSON.stringify(links, null, 1)
    assert.ok(found, `there is no link ${at}: ${shown}`)
    assert.match(found.message, message)
    assert.is(found.status, status, shown)
    if (detail)
      assert.ok(
        found.details?.some((line) => detail.test(line)),
        shown,
      )
    if (advice) assert.match(found.advice ?? '', advice)
    // What came before it holds, and what comes after it is not claimed to.
    const way = links.filter(({ link }) => link !== 'growth' && link !== 'removal')
    const stop = way.findIndex(({ status }) => status === 'fail' || status === 'wait')
    if (stop >= 0) {
      assert.ok(
        way.slice(0, stop).every(({ status }) => status === 'ok' || status === 'warn'),
        shown,
      )
      assert.ok(
        way.slice(stop + 1).every(({ status }) => status === 'open'),
        shown,
      )
    }
  })

test('explain() ticks every link of a claim that a pod uses, also asked for its pod and its volume', async () => {
  const world = new World()
  const volume = world.addBound('data', 'node-1')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  const facts = await world.read()
  for (const [kind, name] of [
    ['claim', 'data'],
    ['pod', 'web'],
    ['volume', volume],
  ] as const) {
    const [chain] = explain(facts, { kind, namespace: 'default', name })
    assert.equal([chain?.claim, chain?.volume, chain?.node], [{ namespace: 'default', name: 'data' }, volume, 'node-1'])
    assert.equal(
      chain?.links.map(({ link, status }) => `${link} ${status}`),
      [
        'claim',
        'class',
        'scheduling',
        'reservation',
        'persistent volume',
        'node',
        'volume',
        'filesystem',
        'mount',
        'pod',
      ].map((link) => `${link} ok`),
    )
  }
})

test('explain() ticks the registration of a volume of CSI', async () => {
  const world = new World()
  world.addBound('data', 'node-1', 'csi')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  const [chain] = explain(await world.read(), { namespace: 'default', name: 'data' })
  const found = chain?.links.find(({ link }) => link === 'registration')
  assert.equal([found?.status, found?.message], ['ok', 'the kubelet of node node-1 knows our CSI driver'])
  assert.ok(chain?.links.every(({ status }) => status === 'ok'))
})

test('explain() of a pod speaks of that pod, though another one has the volume', async () => {
  const world = new World()
  const volume = world.addBound('data', 'node-1')
  world.addPod('first', { claims: ['data'], node: 'node-1', phase: 'Running' })
  world.addPod('second', { claims: ['data'], node: 'node-1', waiting: 'ContainerCreating' })
  world.say(`${podsPath}/second`, 'FailedMount', mountFailed(volume, 'no'), { component: 'kubelet' })
  const facts = await world.read()
  const mountOf = (name: string) =>
    explain(facts, { namespace: 'default', name })[0]?.links.find(({ link }) => link === 'mount')
  assert.is(mountOf('first')?.status, 'ok')
  assert.is(mountOf('second')?.status, 'fail')
  assert.match(mountOf('data')?.message ?? '', /^pod second: no/)
})

test('explain() passes over claims of a pod that are for others', async () => {
  const world = new World()
  world.server.create(classesPath, { metadata: { name: 'nfs' }, provisioner: 'nfs.csi.k8s.io' })
  world.addClaim('theirs', { class: 'nfs' })
  world.addPod('web', { claims: ['theirs'] })
  assert.equal(explain(await world.read(), { namespace: 'default', name: 'web' }), [])
})

test('explain() answers for a claim and a pod of one name, and tells of a claim once', async () => {
  const world = new World()
  for (const name of ['both', 'other']) world.addBound(name, 'node-1')
  world.addPod('both', { claims: ['both', 'other'], node: 'node-1', phase: 'Running' })
  world.addPod('other', { claims: ['both'], node: 'node-1', phase: 'Running' })
  const facts = await world.read()
  const claimsOf = (name: string) => explain(facts, { namespace: 'default', name }).map(({ claim }) => claim?.name)
  assert.equal(claimsOf('both'), ['both', 'other'])
  assert.equal(claimsOf('other'), ['other', 'both'])
})

test('explain() says that nothing has a name', async () => {
  const world = new World()
  world.addClaim('both')
  world.addPod('both', { claims: ['both'] })
  const facts = await world.read()
  const refusal = async (name: string, kind?: Question['kind']) => {
    const work = () => explain(facts, { namespace: 'default', name, ...(kind ? { kind } : {}) })
    const { code, message } = await thrownBy(VolumeError, work)
    return `${code}: ${message}`
  }
  assert.match(await refusal('none'), /^not-found: Cannot find a claim or pod none in namespace default/)
  assert.match(await refusal('both', 'volume'), /^not-found: Cannot find a volume both of ours/)
  assert.is(explain(facts, { namespace: 'default', name: 'both', kind: 'pod' }).length, 1)
})

test('explain() says of what may not be read that it was not looked at, and goes on', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  world.server.policy = ({ path }) =>
    /\/(nodes|configmaps|csidrivers|csinodes|leases|elastic-local\/pods)(\/|$)/.test(path) ||
    path.includes(`/${namespace}/`)
      ? 403
      : undefined
  const facts = await world.read()
  const [chain] = explain(facts, { namespace: 'default', name: 'data' })
  const open = chain?.links.filter(({ status }) => status === 'open').map(({ link }) => link)
  assert.equal(open, ['node', 'volume'])
  assert.not.ok(chain?.links.some(({ status }) => status === 'fail'))
  assert.equal([...facts.notRead.keys()].sort(), [
    'components',
    'csidrivers',
    'csinodes',
    'csistoragecapacities',
    'leases',
    'ledgers',
    'nodes',
  ])
})

test('readCluster() throws when the API server cannot be asked', async () => {
  const world = new World()
  world.server.policy = () => 500
  assert.is((await thrownBy(ApiError, () => world.read())).status, 500)
})

test('readCluster() reads one namespace where that is enough', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  world.server.create('/api/v1/namespaces/other/persistentvolumeclaims', { metadata: { name: 'theirs' }, spec: {} })
  assert.equal([...(await world.read({ within: 'default' })).claims.keys()], ['default/data'])
  assert.is((await world.read()).claims.size, 2)
  assert.is((await world.read({ within: 'default' })).ledgers.get('node-1')?.entries.size, 1)
})

test.run()
