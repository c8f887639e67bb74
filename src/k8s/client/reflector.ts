import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { KubernetesObject } from '@kubernetes/client-node'
import type { Log } from '../../log.ts'
import { messageOf } from '../../volume/errors.ts'
import { type Api, ApiError, delayAfter, hasStatus, isLater, listPages, silentReason } from './api.ts'

export interface ReflectorParts<T extends KubernetesObject, C> {
  api: Api
  /** The list of all objects: `/api/v1/persistentvolumes`. */
  path: string
  /** `labelSelector`, `fieldSelector`. */
  query?: Readonly<Record<string, string>>
  /** What is kept of an object, so that memory holds what is needed; nothing: the object is passed over. */
  pick: (object: T) => C | undefined
  log: Pick<Log, 'warn'>
}

/** How far a copy is, for whoever watches over it. */
export type CopyState = Pick<Reflector<KubernetesObject, unknown>, 'path' | 'isSynced' | 'silentMs'>

/** Told of every change, with what was kept before and what is kept now. */
export type Listener<C> = (key: string, now: C | undefined, before: C | undefined) => void

const backoffMs = { first: 200, most: 5000 }
/** A watch that ends sooner, without a word, is a failed one. */
const shortMs = 1000

/**
 * A copy of what the API server has of one kind: listed once, then watched. Whatever happens to the connection, it lists
 * or watches again, at most every few seconds, until it is stopped; in between the copy is as old as the last word.
 */
export class Reflector<T extends KubernetesObject, C> {
  readonly #parts: ReflectorParts<T, C>
  readonly #kept = new Map<string, C>()
  readonly #listeners = new Set<Listener<C>>()
  readonly #goneListeners = new Set<(key: string) => void>()
  readonly #synced = Promise.withResolvers<void>()
  readonly #attempted = Promise.withResolvers<void>()
  #isSynced = false
  /** How far it has heard; nothing when it has to list. */
  #version: string | undefined
  /** When it last heard anything, be it a failure; nothing while it does not run. */
  #heardAt: number | undefined

  constructor(parts: ReflectorParts<T, C>) {
    this.#parts = parts
  }

  /** Objects by key: `namespace/name`, or `name` where there are no namespaces. */
  get objects(): ReadonlyMap<string, C> {
    return this.#kept
  }

  get path(): string {
    return this.#parts.path
  }

  /** For how long it has heard nothing, in milliseconds, not even a failure: it tries again and again. */
  get silentMs(): number {
    return this.#heardAt === undefined ? 0 : performance.now() - this.#heardAt
  }

  /** Whether everything was listed at least once. */
  get isSynced(): boolean {
    return this.#isSynced
  }

  /** Has `listener` told until `signal` aborts, or for ever. */
  onChange(listener: Listener<C>, signal?: AbortSignal): void {
    this.#listeners.add(listener)
    signal?.addEventListener('abort', () => this.#listeners.delete(listener))
  }

  /** Has `listener` told of each object that a watch sees go, also of those that are passed over, until `signal` aborts. */
  onGone(listener: (key: string) => void, signal: AbortSignal): void {
    this.#goneListeners.add(listener)
    signal.addEventListener('abort', () => this.#goneListeners.delete(listener))
  }

  /** Resolves when everything was listed once. */
  async synced(): Promise<void> {
    await this.#synced.promise
  }

  /** Resolves when everything was listed once, or that was refused. */
  async attempted(): Promise<void> {
    await this.#attempted.promise
  }

  /** Takes an object as the API server just answered it, unless the watch is as far: it may know that it is gone. */
  note(object: T): void {
    if (this.#version !== undefined && isLater(object.metadata?.resourceVersion ?? '0', this.#version))
      this.#change(keyOf(object), this.#parts.pick(object))
  }

  /** Follows the API server until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, path } = this.#parts
    let failures = 0
    while (!signal.aborted) {
      this.#heardAt = performance.now()
      try {
        this.#version ??= await this.#list()
        const begunAt = performance.now()
        let isSilent = true
        for await (const version of this.#watch(this.#version, signal)) {
          this.#version = version
          this.#heardAt = performance.now()
          failures = 0
          isSilent = false
        }
        if (isSilent && performance.now() - begunAt < shortMs)
          throw new ApiError(`The watch of ${path} ended at once.`, { status: 0 })
      } catch (error) {
        if (signal.aborted) break
        if (hasStatus(error, 403)) this.#attempted.resolve()
        // An expired version, or one that the API server does not know, being restored from a backup: list again. Of that, it tells by
        // silence mostly, until it has come as far again.
        if (!hasStatus(error, 0, 429) || (error as ApiError).reason === silentReason) this.#version = undefined
        failures += 1
        // A broken connection is nothing to tell; while the API server is away, once each doubling.
        if (failures > 1 && Number.isInteger(Math.log2(failures)))
          log.warn(`Cannot follow ${path}: ${messageOf(error)}`)
        const delayMs = Math.min(backoffMs.most, backoffMs.first * 2 ** (failures - 1)) * (0.5 + Math.random() / 2)
        await sleep(delayAfter(error, delayMs, backoffMs.most), undefined, { signal }).catch(() => {})
      }
    }
    this.#heardAt = undefined
  }

  async #list(): Promise<string> {
    const { api, path, query } = this.#parts
    const found = new Map<string, C>()
    let version = ''
    for await (const page of listPages<T>(api, path, query)) {
      for (const object of page.items) {
        const kept = this.#parts.pick(object)
        if (kept !== undefined) found.set(keyOf(object), kept)
      }
      this.#heardAt = performance.now()
      version = page.metadata?.resourceVersion ?? ''
    }
    for (const key of [...this.#kept.keys()]) if (!found.has(key)) this.#change(key, undefined)
    // What waits for its next try is not to be tried sooner because somebody listed.
    for (const [key, kept] of found) if (!isDeepStrictEqual(kept, this.#kept.get(key))) this.#change(key, kept)
    this.#isSynced = true
    this.#synced.resolve()
    this.#attempted.resolve()
    return version
  }

  /** Yields the version from which the watch could go on. */
  async *#watch(version: string, signal: AbortSignal): AsyncGenerator<string> {
    const { api, path, query } = this.#parts
    const timeoutSeconds = String(Math.round(240 + Math.random() * 240))
    const options = { ...query, resourceVersion: version, allowWatchBookmarks: 'true', timeoutSeconds }
    for await (const event of api.watch<T>(path, options, signal)) {
      if (event.type === 'ERROR') throw watchError(path, event.object)
      // First, so that note() brings nothing back that goes with this.
      yield event.object.metadata?.resourceVersion ?? version
      if (event.type !== 'BOOKMARK')
        this.#change(keyOf(event.object), event.type === 'DELETED' ? undefined : this.#parts.pick(event.object))
      if (event.type === 'DELETED') for (const listener of this.#goneListeners) listener(keyOf(event.object))
    }
  }

  #change(key: string, now: C | undefined): void {
    const before = this.#kept.get(key)
    if (now === undefined) this.#kept.delete(key)
    else this.#kept.set(key, now)
    if (now !== undefined || before !== undefined) for (const listener of this.#listeners) listener(key, now, before)
  }
}

function keyOf({ metadata }: KubernetesObject): string {
  return metadata?.namespace ? `${metadata.namespace}/${metadata.name}` : (metadata?.name ?? '')
}

function watchError(path: string, { code = 500, message = '' }: { code?: number; message?: string }): ApiError {
  return new ApiError(`The watch of ${path} ended: ${message}`, { status: code })
}

/** Resolves when the signal has aborted, also if that was before. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
