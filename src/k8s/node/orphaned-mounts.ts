import type { V1Node } from '@kubernetes/client-node'
import AsyncLock from 'async-lock'
import type { Log } from '../../log.ts'
import type { Engine } from '../../volume/engine.ts'
import { messageOf } from '../../volume/errors.ts'
import { type Api, hasStatus } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import { nodeObject, type Recorder } from '../client/events.ts'
import { findPodTarget } from '../fronts/pod-target.ts'
import { readNode, readPod } from '../model/lookups.ts'

/** The pod that has a UID. */
export interface PodName {
  namespace: string
  name: string
}

/** Which pods volumes were mounted for, by UID; kept as long as the machine runs, as mounts are. */
export interface PodNotes {
  readAll(): Promise<Map<string, PodName>>
  write(podUid: string, pod: PodName): Promise<void>
  clear(podUid: string): Promise<void>
}

export interface OrphanedMountsParts {
  api: Api
  node: string
  engine: Pick<Engine, 'list' | 'unmount'>
  pods: PodNotes
  /** The kubelet's folder, as mount tables name it. */
  kubeletDir: string
  /** Which boot of the machine this is (random(4)). */
  bootId: string
  /** Runs work that a stop waits for. */
  drain: { run<T>(work: () => Promise<T>): Promise<T> }
  recorder: Recorder
  /** How long a pod must be gone until its mount is taken away. */
  unmountAfterMs: number
  clock: Clock
  log: Pick<Log, 'info' | 'warn'>
}

interface PodMount {
  volume: string
  target: string
  podUid: string
  /** What else shows the volume for that pod: a subPath of a container, the kubelet's own mount of a block device. */
  besides: string | undefined
}

/** It is looked again after so long. */
const usualMs = 600_000
/** UIDs that the API server gives. A static pod, which it knows by another UID, has a hash. */
const apiUid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * Mounts whose pod is gone, and which the kubelet does not take away: it gave up on the call that made them, or was
 * replaced. They are told of, and unmounted after a grace time; one that is in use stays.
 *
 * Invariant: a mount is one of them only where the pod was noted when it was mounted, and where the API server, asked at that
 * moment, has no such pod and says that the kubelet of this very boot of this machine reports to it and is well. So
 * nothing is touched while the API server or the kubelet is away, nor for pods of another cluster.
 */
export class OrphanedMounts {
  readonly #parts: OrphanedMountsParts
  /** When each was first seen to be one, by target. */
  readonly #since = new Map<string, number>()
  readonly #noted = new Set<string>()
  /** A note is written or taken away, never both at a time. */
  readonly #locks = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })
  /** Pods without a mount, and when that was first seen. */
  readonly #idleSince = new Map<string, number>()
  #problems = new Map<string, string[]>()

  constructor(parts: OrphanedMountsParts) {
    this.#parts = parts
  }

  /** Notes for which pod a volume is about to be mounted. Never throws: without a note the mount is left for ever. */
  async note(podUid: string | undefined, pod: PodName | undefined): Promise<void> {
    if (!podUid || !pod || !apiUid.test(podUid)) return
    // It is about to have a mount.
    this.#idleSince.delete(podUid)
    await this.#locks.acquire(podUid, async () => {
      if (this.#noted.has(podUid)) return
      try {
        await this.#parts.pods.write(podUid, pod)
        this.#noted.add(podUid)
      } catch (error) {
        this.#parts.log.warn(messageOf(error), { pod: podUid })
      }
    })
  }

  /** The pod in whose folder a volume is mounted there. */
  podOf(target: string): string | undefined {
    return findPodTarget(this.#parts.kubeletDir, target)?.podUid
  }

  /** What is wrong with the mounts of that volume, as seen last. */
  problemsOf(volume: string): string[] {
    return this.#problems.get(volume) ?? []
  }

  /** Looks now and again until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, drain, log } = this.#parts
    while (!signal.aborted) {
      const waitMs = await drain
        .run(() => this.look())
        .catch((error) => {
          if (!signal.aborted) log.warn(`Cannot check whether pods with mounts are gone: ${messageOf(error)}`)
          return usualMs
        })
      await clock.sleep(waitMs, signal)
    }
  }

  /** Looks at all mounts once, and says after how many milliseconds to look again. */
  async look(): Promise<number> {
    // Before the mounts: a note precedes its mount.
    const noted = await this.#parts.pods.readAll()
    const mounts = await this.#findMounts()
    const gone = new Map<string, PodName>()
    for (const podUid of new Set(mounts.map((mount) => mount.podUid))) {
      const pod = noted.get(podUid)
      if (pod && (await this.#isGone(podUid, pod))) gone.set(podUid, pod)
    }
    const doubt = gone.size > 0 ? doubtOf(await readNode(this.#parts.api, this.#parts.node), this.#parts.bootId) : ''
    this.#problems = new Map()
    const waits = [usualMs]
    for (const mount of mounts) {
      const pod = gone.get(mount.podUid)
      if (pod) waits.push(await this.#treat(mount, pod, doubt))
      else this.#since.delete(mount.target)
    }
    const targets = new Set(mounts.map(({ target }) => target))
    for (const target of this.#since.keys()) if (!targets.has(target)) this.#since.delete(target)
    await this.#forgetIdle([...noted.keys()], new Set(mounts.map(({ podUid }) => podUid)))
    return Math.min(...waits)
  }

  async #findMounts(): Promise<PodMount[]> {
    const { engine, kubeletDir } = this.#parts
    return (await engine.list()).flatMap(({ name, mounts }) =>
      mounts.flatMap(({ target }) => {
        const pod = findPodTarget(kubeletDir, target)
        if (pod?.volumeName !== name) return []
        // Of a pod's folder, or the kubelet's own of a block device; not what is taken away by itself: a volume that was
        // moved has a target of each front.
        const others = mounts.filter(
          (other) => other.target.split('/').includes(pod.podUid) && !findPodTarget(kubeletDir, other.target),
        )
        return [{ volume: name, target, podUid: pod.podUid, besides: others[0]?.target }]
      }),
    )
  }

  /** Whether the API server, asked now, has no such pod. Where the daemon may not ask, nobody knows, and it is not. */
  async #isGone(podUid: string, { namespace, name }: PodName): Promise<boolean> {
    try {
      return (await readPod(this.#parts.api, namespace, name))?.metadata?.uid !== podUid
    } catch (error) {
      if (hasStatus(error, 403)) return false
      throw error
    }
  }

  /** Tells of a mount, or takes it away; gives after how long to look at it again. */
  async #treat({ volume, target, besides }: PodMount, { namespace, name }: PodName, doubt: string): Promise<number> {
    const { engine, unmountAfterMs, clock, log } = this.#parts
    const what = `mounted on ${target} for pod ${namespace}/${name}, which is gone`
    const doubts = doubt || (besides ? `${besides} is still mounted as well` : '')
    const isFirst = !this.#since.has(target)
    const since = this.#since.get(target) ?? clock.now()
    const leftMs = since + unmountAfterMs - clock.now()
    if (doubts || isFirst || leftMs > 0) {
      if (doubts) this.#since.delete(target)
      else this.#since.set(target, since)
      const then = doubts
        ? `It is left alone as ${doubts}.`
        : `If the kubelet does not unmount it, the daemon does after ${unmountAfterMs / 1000} s.`
      this.#problems.set(volume, [...this.problemsOf(volume), `it is ${what}`])
      await this.#say('MountOrphaned', `Volume ${volume} is ${what}. ${then}`)
      return doubts ? usualMs : Math.max(leftMs, 0)
    }
    try {
      await engine.unmount(volume, target)
      this.#since.delete(target)
      log.info(`Unmounted ${target}, whose pod ${namespace}/${name} is gone.`, {
        volume,
        podName: `${namespace}/${name}`,
      })
      await this.#say('MountRemoved', `Volume ${volume} was ${what}, and was unmounted.`)
    } catch (error) {
      this.#problems.set(volume, [...this.problemsOf(volume), `it is ${what}`])
      await this.#say('MountNotRemoved', `Volume ${volume} is ${what}. ${messageOf(error)}`)
    }
    return usualMs
  }

  /** A note goes when its pod has had no mount for long: not while its first one is being made. */
  async #forgetIdle(noted: readonly string[], mounted: ReadonlySet<string>): Promise<void> {
    const { clock, pods } = this.#parts
    for (const podUid of noted) {
      const since = this.#idleSince.get(podUid) ?? clock.now()
      if (mounted.has(podUid)) this.#idleSince.delete(podUid)
      else if (clock.now() - since < usualMs) this.#idleSince.set(podUid, since)
      else
        await this.#locks.acquire(podUid, async () => {
          if (!this.#idleSince.delete(podUid)) return
          this.#noted.delete(podUid)
          await pods.clear(podUid)
        })
    }
  }

  async #say(reason: string, message: string): Promise<void> {
    const { recorder, node } = this.#parts
    await recorder.say(nodeObject(node), 'Warning', reason, message)
  }
}

/** Why it is not certain that the kubelet which runs on this machine knows the API server's pods; nothing if it is. */
function doubtOf(node: V1Node | undefined, bootId: string): string {
  const ready = node?.status?.conditions?.find(({ type }) => type === 'Ready')?.status
  if (ready !== 'True') return `the kubelet of this node is not ready (Ready is ${ready ?? 'not known'})`
  if (node?.status?.nodeInfo?.bootID === bootId) return ''
  return 'the kubelet of this node is not the one that runs on this machine'
}
