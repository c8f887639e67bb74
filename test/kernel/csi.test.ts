/** The CSI driver on real mounts: beside flex on the same volumes, killed, stopped, and told lies. */
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Client, status } from '@grpc/grpc-js'
import * as assert from 'uvu/assert'
import { csiSocket, registrationSocket } from '../../src/csi/driver.ts'
import { Controller, Identity, Node, VolumeUsage_Unit } from '../../src/csi/proto/csi_pb.ts'
import { run } from '../../src/run.ts'
import { callService } from '../csi-client.ts'
import { failureOf } from '../csi-world.ts'
import { type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('CSI on this kernel')
const mebibyte = 2n ** 20n
const flags = { csi: 'true' }
const volumeCapability = {
  accessType: { case: 'mount' as const, value: {} },
  accessMode: { mode: 7 as const },
}
const clients: Client[] = []

test.after.each(() => {
  for (const client of clients.splice(0)) client.close()
})

/** The driver on that node, and what a kubelet asks it about volume pvc-1. */
function driverOn({ kubeletDir }: TestNode) {
  const open = <S extends Parameters<typeof callService>[1]>(service: S) => {
    const { calls, client } = callService(csiSocket(kubeletDir), service)
    clients.push(client)
    return calls
  }
  const [identity, controller, node] = [open(Identity), open(Controller), open(Node)]
  const target = (pod: string) => join(kubeletDir, 'pods', pod, 'volumes/kubernetes.io~csi/pvc-1/mount')
  return {
    ...{ identity, controller, node, target },
    create: (mebibytes = 32n, fsType = 'ext4') =>
      controller.createVolume({
        name: 'pvc-1',
        capacityRange: { requiredBytes: mebibytes * mebibyte },
        volumeCapabilities: [{ ...volumeCapability, accessType: { case: 'mount', value: { fsType } } }],
      }),
    publish: (pod: string, more: object = {}) =>
      node.nodePublishVolume({ volumeId: 'pvc-1', targetPath: target(pod), volumeCapability, ...more }),
    unpublish: (pod: string) => node.nodeUnpublishVolume({ volumeId: 'pvc-1', targetPath: target(pod) }),
  }
}

test(
  'a volume is one, whichever way it is mounted: made, written, grown, seen read-only, unmounted, removed',
  withNode(async (node) => {
    await node.start({ flags })
    const csi = driverOn(node)
    await csi.create(320n, 'xfs')
    await csi.publish('a')
    assert.is(await node.mount('b', {}, 'pvc-1'), 'Success')
    await writeFile(join(csi.target('a'), 'file'), 'precious')
    assert.is(await readFile(join(node.target('b', 'pvc-1'), 'file'), 'utf8'), 'precious')
    await csi.publish('c', { readonly: true })
    assert.is(await readFile(join(csi.target('c'), 'file'), 'utf8'), 'precious')
    const refused = await writeFile(join(csi.target('c'), 'other'), '').catch((error) => error.code)
    assert.is(refused, 'EROFS')
    const place = { volumeId: 'pvc-1', volumePath: csi.target('a') }
    const bytes = async () => (await csi.node.nodeGetVolumeStats(place)).usage[0] ?? assert.unreachable()
    const before = (await bytes()) as { total: bigint; unit: VolumeUsage_Unit }
    assert.is(before.unit, VolumeUsage_Unit.BYTES)
    const range = { capacityRange: { requiredBytes: 640n * mebibyte } }
    assert.is((await csi.node.nodeExpandVolume({ ...place, ...range })).capacityBytes, 640n * mebibyte)
    assert.ok(((await bytes()) as { total: bigint }).total > (before.total * 18n) / 10n)
    assert.is((await failureOf(csi.controller.deleteVolume({ volumeId: 'pvc-1' }))).code, status.FAILED_PRECONDITION)
    for (const pod of ['a', 'a', 'c']) await csi.unpublish(pod)
    assert.not.ok(existsSync(csi.target('a')))
    assert.is(await readFile(join(node.target('b', 'pvc-1'), 'file'), 'utf8'), 'precious')
    assert.is(await node.unmount('b', 'pvc-1'), 'Success')
    await csi.controller.deleteVolume({ volumeId: 'pvc-1' })
    assert.equal(await node.traces(), [])
  }),
)

test(
  'mount options of a call take effect',
  withNode(async (node) => {
    await node.start({ flags })
    const csi = driverOn(node)
    await csi.create()
    const value = { fsType: 'ext4', mountFlags: ['noatime', 'commit=30'] }
    await csi.publish('a', { volumeCapability: { ...volumeCapability, accessType: { case: 'mount', value } } })
    for (const line of await node.mounts()) assert.match(line, /\bnoatime\b.* - ext4 .*\bcommit=30\b/)
  }),
)

test(
  'a volume in which somebody works is not unpublished until they are done',
  withNode(async (node) => {
    await node.start({ flags })
    const csi = driverOn(node)
    await csi.create()
    await csi.publish('a')
    const file = await open(join(csi.target('a'), 'file'), 'w')
    try {
      const { code, details } = await failureOf(csi.unpublish('a'))
      assert.is(code, status.FAILED_PRECONDITION)
      assert.match(details, /target is busy/)
    } finally {
      await file.close()
    }
    await csi.unpublish('a')
    assert.equal(await node.mounts(), [])
  }),
)

test(
  'a killed daemon is noticed by no pod, and the next one registers anew and goes on',
  withNode(async (node) => {
    const first = await node.start({ flags })
    const csi = driverOn(node)
    await csi.create()
    await csi.publish('a')
    await writeFile(join(csi.target('a'), 'file'), 'precious')
    const mounts = await node.mounts()
    await first.end('SIGKILL')
    assert.is((await failureOf(csi.publish('b'))).code, status.UNAVAILABLE)
    assert.equal(await node.mounts(), mounts)
    const second = await node.start({ flags })
    const again = driverOn(node)
    await again.publish('a')
    assert.equal(await node.mounts(), mounts)
    assert.is(await readFile(join(csi.target('a'), 'file'), 'utf8'), 'precious')
    await again.unpublish('a')
    assert.equal(await node.mounts(), [])
    assert.ok(existsSync(registrationSocket(node.kubeletDir)))
    assert.is(await second.end('SIGTERM'), 0)
    assert.not.ok(existsSync(registrationSocket(node.kubeletDir)))
    assert.not.ok(existsSync(csiSocket(node.kubeletDir)))
  }),
)

test(
  'a daemon registers when what was begun is finished, and leaves before it finishes what runs',
  withNode(async (node) => {
    const killed = await node.start({ flags })
    const [mkfs, csi] = [await node.hold('mkfs.ext4'), driverOn(node)]
    const creating = failureOf(csi.create())
    await mkfs.begunBy(creating)
    killed.child.kill('SIGKILL')
    assert.is((await creating).code, status.UNAVAILABLE)
    await rm(registrationSocket(node.kubeletDir))
    await mkfs.letGo()
    await killed.ended
    const held = await node.hold('blkid')
    const daemon = await node.start({ flags })
    await held.begunBy(daemon.ended)
    assert.not.ok(existsSync(registrationSocket(node.kubeletDir)))
    assert.is((await driverOn(node).identity.probe()).ready, false)
    await held.letGo()
    await daemon.says(/Found 1 volumes/)
    const mounting = await node.hold('mount')
    const publishing = driverOn(node).publish('a')
    await mounting.begunBy(publishing)
    assert.ok(existsSync(registrationSocket(node.kubeletDir)))
    daemon.child.kill('SIGTERM')
    await daemon.says(/SIGTERM: finishing what runs/)
    assert.is((await failureOf(driverOn(node).unpublish('b'))).code, status.UNAVAILABLE)
    assert.not.ok(existsSync(registrationSocket(node.kubeletDir)))
    await mounting.letGo()
    await publishing
    assert.is(await daemon.ended, 0)
  }),
)

test(
  'no link leads a mount elsewhere, and nothing else is unmounted for whoever names it',
  withNode(async (node) => {
    await node.start({ flags })
    const csi = driverOn(node)
    await csi.create()
    const elsewhere = join(node.folder, 'elsewhere')
    await mkdir(elsewhere)
    await mkdir(dirname(csi.target('a')), { recursive: true })
    await symlink(elsewhere, csi.target('a'))
    assert.is((await failureOf(csi.publish('a'))).code, status.INVALID_ARGUMENT)
    const secret = join(node.kubeletDir, 'pods/b/volumes/kubernetes.io~secret/token')
    await mkdir(secret, { recursive: true })
    await run('mount', ['-t', 'tmpfs', 'tmpfs', secret])
    await csi.node.nodeUnpublishVolume({ volumeId: 'pvc-1', targetPath: secret })
    assert.is((await node.mounts()).filter((line) => line.includes(secret)).length, 1)
  }),
)

test(
  'a daemon that cannot serve CSI ends, and says why',
  withNode(async (node) => {
    const daemon = await node.launch({ flags: { ...flags, 'kubelet-dir': join(node.folder, 'x'.repeat(90)) } })
    assert.is(await daemon.ended, 2)
    assert.match(daemon.output(), /as the path of a socket must have at most 107 bytes/)
    assert.not.ok(existsSync(node.socket))
  }),
)

test(
  'two daemons cannot serve one kubelet',
  withNode(async (node) => {
    await node.start({ flags })
    const other = { 'volumes-dir': join(node.folder, 'other'), socket: join(node.folder, 'run/other') }
    const second = await node.launch({ flags: { ...flags, ...other } })
    assert.is(await second.ended, 1)
    assert.match(second.output(), /Cannot lock .*csi\.sock\.lock: process \d+ \(.+\) holds it/)
    assert.is((await driverOn(node).identity.probe()).ready, true)
  }),
)

test(
  'a volume whose xfs the kernel has shut down can be unmounted by both fronts, and is whole when it is mounted again',
  withNode(async (node) => {
    await node.start({ flags })
    const csi = driverOn(node)
    await csi.create(320n, 'xfs')
    await csi.publish('a')
    assert.is(await node.mount('b', {}, 'pvc-1'), 'Success')
    const file = await open(join(csi.target('a'), 'file'), 'w')
    await file.writeFile('precious')
    await file.sync()
    await file.close()
    await run('xfs_io', ['-x', '-c', 'shutdown -f', csi.target('a')])
    for (const target of [csi.target('a'), node.target('b', 'pvc-1')])
      assert.is(await stat(target).catch(({ code }) => code), 'EIO')
    // As a kubelet does that was started anew.
    await csi.publish('a')
    assert.is(await node.mount('b', {}, 'pvc-1'), 'Success')
    await csi.unpublish('a')
    assert.is(await node.unmount('b', 'pvc-1'), 'Success')
    await csi.publish('a')
    assert.is(await readFile(join(csi.target('a'), 'file'), 'utf8'), 'precious')
    await csi.unpublish('a')
    await csi.controller.deleteVolume({ volumeId: 'pvc-1' })
    assert.equal(await node.traces(), [])
  }),
)

test.run()
