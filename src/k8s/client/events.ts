import { createHash } from 'node:crypto'
import type { CoreV1Event, V1ObjectReference } from '@kubernetes/client-node'
import type { Log, LogFields } from '../../log.ts'
import { messageOf } from '../../volume/errors.ts'
import { type Api, hasStatus } from './api.ts'
import type { Clock } from './clock.ts'

/** The object that an event is about. */
export type EventObject = Required<Pick<V1ObjectReference, 'kind' | 'name' | 'uid'>> & { namespace?: string }

/** A node; the kubelet as well gives its name for its UID, and whoever describes a node looks for both. */
export const nodeObject = (name: string): EventObject => ({ kind: 'Node', name, uid: name })

function aboutObject({ kind, namespace, name }: EventObject): LogFields {
  if (kind === 'PersistentVolumeClaim') return { claim: `${namespace}/${name}` }
  return kind === 'Node' ? { node: name } : { volume: name }
}

export interface RecorderParts {
  api: Api
  /** Who says so: `elastic-local-provisioner`. */
  component: string
  /** The node it is said on, if any. */
  host?: string
  /** How long ago a thing was said, which setting the hour must not change. */
  clock: Pick<Clock, 'now'>
  /** For what people read. */
  now: () => Date
  log: Pick<Log, 'debug' | 'warn'>
}

/** The same thing is said again after so long at the soonest. */
const quietMs = 60_000
/** Numbers that stand alone, and sizes: words that differ only in them, as in the room that is left, say the same thing. */
const numbers = /(?<![\w.-])[0-9]+(?:(?:\.[0-9]+)? (?:[KMGTPE]i)?B(?: \([0-9]+ bytes\))?)?(?![\w.-])/g
/** The API server takes no longer message. */
const longestMessage = 1024

/** Events where a person will look: `kubectl describe`. What is said again raises the count of the first event. */
export class Recorder {
  readonly #parts: RecorderParts
  readonly #said = new Map<string, number>()
  #forgotAt = Number.NEGATIVE_INFINITY

  constructor(parts: RecorderParts) {
    this.#parts = parts
  }

  /** Never throws: an event that cannot be written is logged. */
  async say(object: EventObject, type: 'Normal' | 'Warning', reason: string, message: string): Promise<void> {
    const { clock, now, log } = this.#parts
    const parts = [
      object.uid,
      this.#parts.component,
      this.#parts.host ?? '',
      type,
      reason,
      message.replace(numbers, '#'),
    ]
    const hash = createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 16)
    const name = `${object.name.slice(0, 200).replace(/[.-]+$/, '')}.${hash}`
    const saidAt = clock.now()
    if (saidAt - (this.#said.get(name) ?? Number.NEGATIVE_INFINITY) < quietMs) return
    this.#forgetOld(saidAt)
    this.#said.set(name, saidAt)
    const about = { ...aboutObject(object), reason }
    log.debug(`Event ${reason} on ${object.kind} ${object.name}: ${message}`, about)
    try {
      await this.#write(name, object, { type, reason, message: message.slice(0, longestMessage) }, now().toISOString())
    } catch (error) {
      this.#said.delete(name)
      log.warn(
        `Cannot write the event "${reason}: ${message}" about ${object.kind} ${object.name}: ${messageOf(error)}`,
        about,
      )
    }
  }

  /** What may be said again anyhow need not be remembered. */
  #forgetOld(now: number): void {
    if (now - this.#forgotAt < quietMs) return
    this.#forgotAt = now
    for (const [name, saidAt] of this.#said) if (now - saidAt >= quietMs) this.#said.delete(name)
  }

  async #write(
    name: string,
    object: EventObject,
    words: { type: string; reason: string; message: string },
    time: string,
  ): Promise<void> {
    const { api, component, host } = this.#parts
    const namespace = object.namespace ?? 'default'
    const path = `/api/v1/namespaces/${namespace}/events`
    const body = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace },
      involvedObject: { apiVersion: 'v1', ...object },
      ...words,
      source: { component, ...(host ? { host } : {}) },
      reportingComponent: component,
      reportingInstance: host ?? component,
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    }
    try {
      await api.send({ method: 'POST', path, body })
    } catch (error) {
      if (!hasStatus(error, 409)) throw error
      const { count = 1 } = await api.send<CoreV1Event>({ method: 'GET', path: `${path}/${name}` })
      const again = { count: count + 1, lastTimestamp: time, message: words.message }
      await api.send({ method: 'PATCH', path: `${path}/${name}`, body: again })
    }
  }
}
