/** Many volumes at once, under pods that write, are stopped and started, while whoever moves them is killed by chance. */
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { csiDriverName } from '../../src/csi/driver.ts'
import { suite } from '../suite.ts'
import { buildRandom, pickSeed } from '../torture/random.ts'
import { agreement } from './agreement.ts'
import type { KubeObject } from './api.ts'
import { claim, gibibyte, pod } from './claim-objects.ts'
import { type Elastic, type ElasticNode, openElastic } from './elastic.ts'
import { placeOf } from './front.ts'
import { openMover, type PersonWhoMoves } from './moving.ts'

const test = suite('moves of many volumes')
const count = Number(process.env.MOVES ?? 50)
const names = Array.from({ length: count }, (_, i) => `m${i}`)
const seed = pickSeed()
const random = buildRandom(seed)

/** A pod that writes a line after the other into its volume, as the test does for it. */
class Writer {
  readonly #path: string
  readonly #begin: number
  #isStopped = false
  #ended: Promise<number> | undefined

  constructor(folder: string, begin: number) {
    this.#path = join(folder, 'lines')
    this.#begin = begin
  }

  start(): void {
    this.#ended = this.#write()
  }

  async #write(): Promise<number> {
    const file: FileHandle = await open(this.#path, 'a')
    let next = this.#begin
    try {
      while (!this.#isStopped) {
        await file.write(`${next}\n`)
        await file.datasync()
        next += 1
        await sleep(50)
      }
    } finally {
      await file.close()
    }
    return next
  }

  /** Gives how many lines there are by now. */
  async stop(): Promise<number> {
    this.#isStopped = true
    return (await this.#ended) ?? 0
  }
}

test(`${count} volumes move both ways without the loss of a byte (SEED=${seed})`, async () => {
  const { cluster, elastic, scratch, close } = await openElastic()
  let mover: PersonWhoMoves | undefined
  try {
    await elastic.startProvisioner({}, { again: true })
    const node = await elastic.startNode({ name: 'node-1', diskBytes: 8 * gibibyte, daemonFlags: { csi: 'true' } })
    mover = await openMover(cluster, scratch)
    const isRegistered = ({ spec }: KubeObject) => spec.drivers?.some(({ name }: KubeObject) => name === csiDriverName)
    await cluster.waitFor('/apis/storage.k8s.io/v1/csinodes/node-1', (found) => Boolean(found && isRegistered(found)))
    await cluster.apply(...names.map((name) => claim(name, { size: '32Mi' })))
    const lines = new Map(names.map((name) => [name, 0]))
    const writers = new Map<string, Writer>()
    /** Starts pods on the volumes of that front; what was written is there. */
    const start = async (some: readonly string[], front: 'flex' | 'csi') => {
      await cluster.apply(...some.map((name) => pod(name, [name])))
      for (const name of some) {
        const folder = await folderOf(elastic, node, name, front)
        const wanted = Array.from({ length: lines.get(name) ?? 0 }, (_, i) => `${i}\n`).join('')
        if (wanted) assert.is(await readFile(join(folder, 'lines'), 'utf8'), wanted, name)
        const writer = new Writer(folder, lines.get(name) ?? 0)
        writers.set(name, writer)
        writer.start()
      }
    }
    const stop = async (some: readonly string[]) => {
      for (const name of some) lines.set(name, (await writers.get(name)?.stop()) ?? 0)
      await cluster.kubectl(['delete', 'pod', ...some])
    }
    await start(names, 'flex')
    for (const to of ['csi', 'flex'] as const) {
      // Half of them are stopped; the others run on.
      const stopped = names.filter(() => random.chance(0.5))
      await stop(stopped)
      const args = [`move-to-${to}`, '--all', '--in-use']
      for (let at = 1 + random.below(40); ; at = 1 + random.below(count * 8)) {
        const { exitCode, said } = await mover.run(args, { kill: { at, isDone: random.chance(0.5) } })
        if (exitCode === 0) break
        assert.is(exitCode, null, said)
        if (random.chance(0.3)) {
          const part = random.chance(0.5) ? node.daemon : cluster.component('kube-apiserver')
          await part.kill()
          await part.start()
        }
      }
      const { items } = await cluster.api.request('GET', '/api/v1/persistentvolumes')
      assert.equal([...new Set(items.map(({ spec }: KubeObject) => Boolean(spec.csi)))], [to === 'csi'])
      await start(stopped, to)
      // Those that ran on have it by the new front when they start again.
      const others = names.filter((name) => !stopped.includes(name))
      await stop(others)
      await start(others, to)
    }
    await stop(names)
    await start(names, 'flex')
    await stop(names)
    assert.is((await agreement(elastic, [node])).length, count)
    const { items } = await cluster.api.request('GET', '/api/v1/events')
    const told = items
      .filter(({ type, reason }: KubeObject) => type === 'Warning' && /Lost|Orphaned|NotMade|Removed/.test(reason))
      .map(({ reason }: KubeObject) => reason)
    assert.equal([...new Set(told)], ['ClaimLost'])
  } finally {
    mover?.close()
    await close()
  }
})

async function folderOf({ cluster }: Elastic, node: ElasticNode, name: string, by: 'flex' | 'csi'): Promise<string> {
  const { metadata } = await cluster.waitFor<KubeObject>(
    `/api/v1/namespaces/default/pods/${name}`,
    (state) => state?.status?.phase === 'Running',
    300_000,
  )
  const path = `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
  const { spec } = await cluster.waitFor<KubeObject>(path, Boolean)
  return join(node.kubelet.rootDir, 'pods', metadata.uid, placeOf(spec.volumeName, by))
}

test.run()
