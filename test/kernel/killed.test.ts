import '../crash/memory-disk.ts'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import * as assert from 'uvu/assert'
import { csiSocket } from '../../src/csi/driver.ts'
import { Controller, Node } from '../../src/csi/proto/csi_pb.ts'
import { ClientError } from '../../src/daemon/client.ts'
import { type FrontName, frontNames } from '../../src/daemon/front.ts'
import { csiTarget } from '../crash/csi-calls.ts'
import { explain } from '../crash/explain.ts'
import { callService } from '../csi-client.ts'
import { type Daemon, type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('a daemon that is killed')
const sizeBytes = 32n << 20n
const preload = join(import.meta.dirname, '../crash/doomed.ts')
/** How many of the steps a daemon is killed at; each takes two daemons. Below the calls of both fronts is the same engine. */
const deathsBy = process.env.LONG ? { flex: 12, csi: 12 } : { flex: 12, csi: 4 }
const deathsOf = (front: FrontName) => (process.env.TORTURE === undefined ? deathsBy[front] : Number.POSITIVE_INFINITY)

const moments = ['before', 'after', 'during']

/** How a volume is asked for by a front; each throws what is no answer. */
interface Door {
  name: string
  target(pod: string): string
  make(): Promise<void>
  mount(pod: string, options?: { readOnly?: boolean }): Promise<void>
  unmount(pod: string): Promise<void>
  remove(): Promise<void>
}

function flexDoor(node: TestNode): Door {
  const options = { sizeBytes: String(sizeBytes), 'kubernetes.io/fsType': 'ext4' }
  return {
    name: 'one',
    target: (pod) => node.target(pod),
    // It is made by the first mount.
    make: async () => {},
    mount: async (pod, { readOnly = false } = {}) =>
      assert.is(await node.mount(pod, { ...options, 'kubernetes.io/readwrite': readOnly ? 'ro' : 'rw' }), 'Success'),
    unmount: async (pod) => assert.is(await node.unmount(pod), 'Success'),
    remove: async () => assert.is((await node.ask('DELETE', '/v1/volumes/one')).status, 200),
  }
}

function csiDoor(node: TestNode): Door {
  const volumeId = 'pvc-one'
  const capability = {
    accessType: { case: 'mount' as const, value: { fsType: 'ext4' } },
    accessMode: { mode: 7 as const },
  }
  const call = async <S extends typeof Controller | typeof Node>(
    service: S,
    work: (calls: ReturnType<typeof callService<S>>['calls']) => Promise<unknown>,
  ): Promise<void> => {
    // As the kubelet does, for each call anew.
    const { calls, client } = callService(csiSocket(node.kubeletDir), service)
    try {
      await work(calls)
    } finally {
      client.close()
    }
  }
  const target = (pod: string) => csiTarget(node, pod, volumeId)
  return {
    name: volumeId,
    target,
    make: () =>
      call(Controller, (controller) =>
        controller.createVolume({
          name: volumeId,
          capacityRange: { requiredBytes: sizeBytes },
          volumeCapabilities: [capability],
        }),
      ),
    mount: (pod, { readOnly = false } = {}) =>
      call(Node, (calls) =>
        calls.nodePublishVolume({
          volumeId,
          targetPath: target(pod),
          readonly: readOnly,
          volumeCapability: capability,
        }),
      ),
    unmount: (pod) => call(Node, (calls) => calls.nodeUnpublishVolume({ volumeId, targetPath: target(pod) })),
    remove: () => call(Controller, (controller) => controller.deleteVolume({ volumeId })),
  }
}

const doors = { flex: flexDoor, csi: csiDoor }

/** Whether nobody was there to answer, to the end. */
const isUnanswered = (error: unknown) =>
  error instanceof ClientError || (error instanceof Error && 'code' in error && error.code === status.UNAVAILABLE)

/** A request, and what must be true when it was answered. */
type Request = (node: TestNode, door: Door) => Promise<void>

const requests: Request[] = [
  async (_, door) => {
    await door.make()
    await door.mount('a')
    await writeFile(join(door.target('a'), 'file'), 'precious', { flush: true })
  },
  async (_, door) => {
    await door.mount('b', { readOnly: true })
    assert.is(await readFile(join(door.target('b'), 'file'), 'utf8'), 'precious')
  },
  (_, door) => door.unmount('a'),
  async (node, door) => {
    await door.unmount('b')
    assert.equal(await node.mounts(), [])
    assert.equal(await node.loopDevices(), [])
  },
  async (node, door) => {
    await door.mount('a')
    assert.is(await readFile(join(door.target('a'), 'file'), 'utf8'), 'precious')
    const { state, problems } = await node.show(door.name)
    assert.equal([state, problems], ['ready', []])
    await door.unmount('a')
  },
  (_, door) => door.remove(),
]

for (const front of frontNames) {
  const flags = { csi: String(front === 'csi') }

  /** Starts a daemon that is to be killed at a step, or only tells its steps. */
  const startDoomed = (node: TestNode, doom: string, steps = '/dev/null') =>
    node.launch({ flags, env: { NODE_OPTIONS: `--import=${preload}`, DOOM: doom, DOOM_STEPS: steps } })

  /** Asks everything, one after the other; of a new daemon from that request on in which the first is killed. */
  const askAll = async (node: TestNode, doomed: Daemon): Promise<void> => {
    const serves = await doomed.says(/Serving/).then(
      () => true,
      () => false,
    )
    if (!serves) await node.start({ flags })
    for (const request of requests)
      try {
        await request(node, doors[front](node))
      } catch (error) {
        if (!isUnanswered(error)) throw error
        await doomed.ended
        await node.start({ flags })
        await request(node, doors[front](node))
      }
  }

  /** What a daemon does in all, from its start on. */
  const readSteps = async (): Promise<string[]> => {
    let text = ''
    await withNode(async (node) => {
      const log = join(node.folder, 'steps')
      await askAll(node, await startDoomed(node, '', log))
      text = await readFile(log, 'utf8')
    })()
    return text.trimEnd().split('\n')
  }

  test(`a daemon that is killed leaves nothing behind wherever it was, and the next one goes on, by ${front}`, async () => {
    const steps = await readSteps()
    const stride = Math.max(1, Math.floor(steps.length / deathsOf(front)))
    assert.ok(steps.length > 50, `${steps.length} steps`)
    for (let step = 0; step < steps.length; step += stride)
      for (const moment of stride === 1 ? moments : [moments[(step / stride) % moments.length]]) {
        const dying = withNode(async (node) => {
          const doomed = await startDoomed(node, `${moment} ${step}`)
          await askAll(node, doomed)
          assert.is(doomed.child.signalCode, 'SIGKILL')
          assert.equal(await node.traces(), [])
        })
        await dying().catch((error) => {
          throw new Error(`Killed ${moment} "${steps[step]}": ${explain(error)}`, { cause: error })
        })
      }
  })
}

test.run()
