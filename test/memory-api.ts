import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { KubernetesObject } from '@kubernetes/client-node'
import { type Api, ApiError, type ApiRequest, type WatchEvent } from '../src/k8s/client/api.ts'
import { aborted } from '../src/k8s/client/reflector.ts'
import type { KubeMetadata } from './cluster/api.ts'

/** An object as the API server has it. */
export interface StoredObject {
  metadata: KubeMetadata & { creationTimestamp: string }
  // biome-ignore lint/suspicious/noExplicitAny: tests look into objects of every kind.
  [field: string]: any
}

/**
 * What becomes of a request. `refused`: nothing is done, and the answer has that status; 0 stands for no answer at all.
 * `conflict`: somebody else changes the object first. `answer-lost`: it is carried out, and nobody is told. `late`: the
 * same, but it is carried out only after the next request.
 */
export type Fate = 'done' | { refused: number } | 'conflict' | 'answer-lost' | 'late'

/** Decides on a client's requests, which are counted from 1. */
export type Hook = (request: ApiRequest, count: number) => Fate | Promise<Fate>

/** Where a request goes. */
interface Place {
  /** The kind, in all namespaces: `/api/v1/configmaps`. */
  collection: string
  namespace: string
  /** Empty for the list. */
  name: string
  isStatus: boolean
}

interface Change {
  collection: string
  before: StoredObject | undefined
  after: StoredObject | undefined
  /** With the version of the change, also when it is a removal. */
  last: StoredObject
}

const waitMs = 120_000
const lookMs = 100
/** A server is idle when nothing was asked for so many turns of the event loop. */
const idleTurns = 30

/**
 * An API server that exists only in memory, for tests of all that talks to one (apimachinery, registry/generic): versions
 * and conflicts, merge patches, finalizers, selectors, pages, and watches. It outlives its clients, each of which a test
 * may kill or disturb.
 */
export class MemoryApi {
  /** The status with which a request is refused, whoever sends it: what validation and rights would say. */
  policy: (request: ApiRequest) => number | undefined = () => undefined
  readonly #objects = new Map<string, StoredObject>()
  readonly #history: Change[] = []
  /** What is left of lists that were begun, by the token that continues them. */
  readonly #pages = new Map<string, { items: StoredObject[]; version: number }>()
  readonly #listeners = new Set<() => void>()
  readonly #inFlight = new Set<ApiRequest>()
  #late: (() => void)[] = []
  #served = 0
  #version = 1
  /** Watches from before this version are refused. */
  #oldest = 0

  /** The object at a path, as a test sees it. */
  find(path: string): StoredObject | undefined {
    return this.#objects.get(keyOf(parsePlace(path)))
  }

  /** The objects of one kind, of all namespaces or of one. */
  list(path: string): StoredObject[] {
    const { collection, namespace } = parsePlace(path)
    const start = namespace ? keyOf({ collection, namespace, name: '' }) : `${collection} `
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(start))
    return keys.sort().map((key) => this.#objects.get(key) as StoredObject)
  }

  /** Every state that the object at a path was ever in. */
  statesOf(path: string): StoredObject[] {
    const key = keyOf(parsePlace(path))
    const changes = this.#history.filter(({ collection, last }) => keyOf({ collection, ...last.metadata }) === key)
    return changes.map(({ after }) => after).filter((object) => object !== undefined)
  }

  /** Makes an object by somebody else's hand, with the status that it says. */
  create(path: string, object: object): StoredObject {
    return this.carryOut({ method: 'POST', path, body: object }, { whole: true })
  }

  /** Changes an object by somebody else's hand, in any part. */
  change(path: string, patch: object): StoredObject {
    return this.carryOut({ method: 'PATCH', path, body: patch }, { whole: true })
  }

  /** Asks for an object's removal by somebody else's hand. */
  delete(path: string): void {
    this.carryOut({ method: 'DELETE', path })
  }

  /** Forgets what was before now: older watches and lists that were begun are refused. */
  compact(): void {
    this.#oldest = this.#version
    this.#pages.clear()
  }

  /** Calls `listener` after each change and each request, until what it gives is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  client(hook?: Hook): MemoryClient {
    return new MemoryClient(this, hook)
  }

  /** Resolves once `isSo` holds, which is looked at after each change and each request, and in between. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    const reached = Promise.withResolvers<void>()
    const look = () => {
      try {
        if (isSo()) reached.resolve()
      } catch (error) {
        reached.reject(error)
      }
    }
    const timer = setTimeout(() => reached.reject(new Error(`Waited in vain for: ${what}.`)), waitMs)
    const end = this.onChange(look)
    // What a program makes of a change shows only after it.
    const interval = setInterval(look, lookMs)
    try {
      look()
      await reached.promise
    } finally {
      end()
      clearInterval(interval)
      clearTimeout(timer)
    }
  }

  /** Resolves when everything that was asked is answered, and nobody asks for more. */
  async idle(): Promise<void> {
    for (let quiet = 0, served = this.#served; quiet < idleTurns; quiet += 1) {
      await nextTurn()
      if (this.#inFlight.size === 0 && served === this.#served) continue
      quiet = 0
      served = this.#served
    }
    if (this.#late.length === 0) return
    this.#carryOutLate()
    await this.idle()
  }

  /** Does what a client asks, with that fate, and gives the answer. */
  async serve(request: ApiRequest, fate: Fate): Promise<StoredObject> {
    this.#inFlight.add(request)
    try {
      await nextTurn()
      return this.#meet(request, fate)
    } finally {
      await nextTurn()
      this.#inFlight.delete(request)
      this.#served += 1
      this.#tell()
    }
  }

  #meet(request: ApiRequest, fate: Fate): StoredObject {
    const { method, path } = request
    if (typeof fate === 'object') throw refusal(request, fate.refused, 'Injected', 'a test wants it so')
    if (fate === 'late') {
      this.#late.push(() => this.#decide(request))
      throw unanswered(request)
    }
    if (fate === 'conflict' && method === 'POST') throw refusal(request, 409, 'AlreadyExists', 'it was there just now')
    if (fate === 'conflict' && method !== 'GET' && this.find(path))
      this.change(path, { metadata: { annotations: { 'changed-by': randomUUID() } } })
    try {
      const answer = this.#decide(request)
      if (fate === 'answer-lost') throw unanswered(request)
      return answer
    } finally {
      this.#carryOutLate()
    }
  }

  #decide(request: ApiRequest): StoredObject {
    const status = this.policy(request)
    if (status !== undefined) throw refusal(request, status, 'Forbidden', 'the policy is against it')
    return this.carryOut(request)
  }

  #carryOutLate(): void {
    for (const carryOut of this.#late.splice(0)) {
      try {
        carryOut()
      } catch (error) {
        if (!(error instanceof ApiError)) throw error
      }
    }
  }

  /** Does what is asked at once. `whole`: in the object and its status alike, as no request can. */
  carryOut(request: ApiRequest, options?: { whole: boolean }): StoredObject {
    const { method, path, query = {} } = request
    const place = parsePlace(path)
    if (method === 'GET' && place.name === '') return this.#listPage(request, place, query)
    const body = JSON.parse(JSON.stringify(request.body ?? {})) as StoredObject
    if (method === 'POST') return this.#create(request, place, body)
    const before = this.#objects.get(keyOf(place))
    if (!before) throw refusal(request, 404, 'NotFound', `${place.collection} "${place.name}" not found`)
    if (method === 'GET') return before
    if (method === 'DELETE') return this.#remove(request, place, before, body)
    const version = body.metadata?.resourceVersion
    if (version !== undefined && version !== before.metadata.resourceVersion)
      throw refusal(
        request,
        409,
        'Conflict',
        `the object has been modified: it is ${before.metadata.resourceVersion}, not ${version}`,
      )
    const wanted = method === 'PATCH' ? (merge(before, body) as StoredObject) : body
    return this.#replace(place, before, options?.whole ? wanted : writable(place, before, wanted))
  }

  #create(request: ApiRequest, place: Place, body: StoredObject): StoredObject {
    const { name } = body.metadata
    const key = keyOf({ ...place, name })
    if (!name) throw refusal(request, 422, 'Invalid', 'metadata.name: Required value')
    if (body.metadata.resourceVersion)
      throw refusal(request, 500, 'InternalError', 'resourceVersion should not be set on objects to be created')
    if (this.#objects.has(key))
      throw refusal(request, 409, 'AlreadyExists', `${place.collection} "${name}" already exists`)
    const metadata = { ...body.metadata, uid: randomUUID(), creationTimestamp: timestamp() }
    if (place.namespace) metadata.namespace = place.namespace
    return this.#write(place.collection, undefined, { ...body, metadata })
  }

  #remove(request: ApiRequest, place: Place, before: StoredObject, body: StoredObject): StoredObject {
    const { uid, resourceVersion } = (body.preconditions ?? {}) as { uid?: string; resourceVersion?: string }
    if ((uid ?? before.metadata.uid) !== before.metadata.uid)
      throw refusal(request, 409, 'Conflict', `Precondition failed: UID in precondition: ${uid}`)
    if ((resourceVersion ?? before.metadata.resourceVersion) !== before.metadata.resourceVersion)
      throw refusal(
        request,
        409,
        'Conflict',
        `Precondition failed: ResourceVersion in precondition: ${resourceVersion}`,
      )
    if (before.metadata.deletionTimestamp) return before
    const deletionTimestamp = timestamp()
    return this.#replace(place, before, { ...before, metadata: { ...before.metadata, deletionTimestamp } })
  }

  /** Writes an object that was there, or removes it when nothing holds it any more. */
  #replace({ collection }: Place, before: StoredObject, wanted: StoredObject): StoredObject {
    const { deletionTimestamp, finalizers = [] } = wanted.metadata
    if (deletionTimestamp && finalizers.length === 0) return this.#write(collection, before, undefined)
    return isDeepStrictEqual(before, wanted) ? before : this.#write(collection, before, wanted)
  }

  #write(collection: string, before: StoredObject | undefined, after: StoredObject | undefined): StoredObject {
    this.#version += 1
    const written = (after ?? before) as StoredObject
    const metadata = { ...written.metadata, resourceVersion: String(this.#version) }
    const last = freeze({ ...written, metadata })
    const key = keyOf({ collection, ...last.metadata })
    if (after) this.#objects.set(key, last)
    else this.#objects.delete(key)
    this.#history.push({ collection, before, after: after && last, last })
    this.#tell()
    return last
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }

  #listPage(request: ApiRequest, place: Place, query: Readonly<Record<string, string>>): StoredObject {
    const { limit, continue: token } = query
    const begun = token ? this.#pages.get(token) : { items: this.#select(place, query), version: this.#version }
    if (!begun) throw refusal(request, 410, 'Expired', 'The provided continue parameter is too old')
    const count = limit ? Number(limit) : begun.items.length
    const rest = begun.items.slice(count)
    const next = rest.length > 0 ? randomUUID() : ''
    if (next) this.#pages.set(next, { ...begun, items: rest })
    const metadata = { resourceVersion: String(begun.version), ...(next ? { continue: next } : {}) }
    return { kind: 'List', metadata, items: begun.items.slice(0, count) } as unknown as StoredObject
  }

  #select(place: Place, query: Readonly<Record<string, string>>): StoredObject[] {
    const isSelected = buildSelector(place, query)
    return this.list(place.collection).filter(isSelected)
  }

  /** What a watch from that version is told, oldest first, or why it cannot go on. */
  eventsSince(path: string, query: Readonly<Record<string, string>>, version: number): WatchEvent<KubernetesObject>[] {
    if (version < this.#oldest)
      return [{ type: 'ERROR', object: { code: 410, message: `too old resource version: ${version}` } }]
    const place = parsePlace(path)
    const isSelected = buildSelector(place, query)
    // Each change has a version of its own, and the first has 2.
    const changes = this.#history.slice(version - 1)
    return changes
      .filter(({ collection }) => collection === place.collection)
      .flatMap(({ before, after, last }) => {
        const [was, is] = [before !== undefined && isSelected(before), after !== undefined && isSelected(after)]
        if (!was && !is) return []
        const object = last as unknown as KubernetesObject
        return [{ type: !is ? 'DELETED' : was ? 'MODIFIED' : 'ADDED', object } as const]
      })
  }
}

/** One program's way to the server. */
export class MemoryClient implements Api {
  /** What was asked, in order. */
  readonly requests: ApiRequest[] = []
  readonly #server: MemoryApi
  readonly #hook: Hook
  readonly #watches = new Set<(how: 'ended' | 'lost') => void>()
  #isDead = false
  #held: { among: string; until: Promise<void> } | undefined

  constructor(server: MemoryApi, hook: Hook = () => 'done') {
    this.#server = server
    this.#hook = hook
  }

  /** Nothing more goes out, and nothing comes in: the program has died, or its network is gone. */
  kill(): void {
    this.#isDead = true
    this.breakWatches('lost')
  }

  /** Ends the watches that are open. */
  breakWatches(how: 'ended' | 'lost'): void {
    for (const end of this.#watches) end(how)
  }

  /** Lets watches, or those of one path, tell nothing until what it gives is called. */
  holdWatches(among = ''): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#held = { among, until: promise }
    return resolve
  }

  async send<T>(request: ApiRequest): Promise<T> {
    if (this.#isDead) throw unanswered(request)
    this.requests.push(request)
    const fate = await this.#hook(request, this.requests.length)
    return (await this.#server.serve(request, fate)) as T
  }

  async *watch<T extends KubernetesObject>(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<T>> {
    const request: ApiRequest = { method: 'GET', path, query }
    if (this.#isDead) throw unanswered(request)
    const end = Promise.withResolvers<'ended' | 'lost'>()
    const stopped = Promise.race([end.promise, aborted(signal).then(() => 'lost' as const)])
    this.#watches.add(end.resolve)
    try {
      for (let version = Number(query.resourceVersion); ; ) {
        const { promise: news, resolve } = Promise.withResolvers<undefined>()
        const forget = this.#server.onChange(() => resolve(undefined))
        const events = this.#server.eventsSince(path, query, version)
        if (events.length === 0) {
          const how = await Promise.race([news, stopped])
          forget()
          if (how === 'ended') return
          if (how === 'lost') throw unanswered(request)
          continue
        }
        forget()
        if (path.endsWith(this.#held?.among ?? '')) await Promise.race([this.#held?.until, stopped])
        for (const event of events) {
          if (event.type !== 'ERROR') version = Number(event.object.metadata?.resourceVersion)
          yield event as WatchEvent<T>
          if (event.type === 'ERROR') return
        }
      }
    } finally {
      this.#watches.delete(end.resolve)
    }
  }
}

const placePattern =
  /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/(?<namespace>[^/]+))?\/(?<resource>[^/]+)(?:\/(?<name>[^/]+))?(?<status>\/status)?$/

function parsePlace(path: string): Place {
  const match = placePattern.exec(path)
  if (!match?.groups) throw new Error(`Cannot serve ${path} as it is not a path of objects.`)
  const { namespace = '', resource, name = '', status } = match.groups
  return { collection: `${match[1]}/${resource}`, namespace, name, isStatus: status !== undefined }
}

function keyOf({ collection, namespace = '', name }: { collection: string; namespace?: string; name: string }): string {
  return `${collection} ${namespace}/${name}`
}

/** Whether objects are of the place's namespace and fit the label selector (`key`, `!key`, `key=value`, `key!=value`). */
function buildSelector(place: Place, query: Readonly<Record<string, string>>): (object: StoredObject) => boolean {
  const { fieldSelector } = query
  // Of all fields that a server knows, those that we ask for.
  const [, type] = /^type=(\w+)$/.exec(fieldSelector ?? '') ?? []
  const [, wantedName] = /^metadata\.name=([\w.-]+)$/.exec(fieldSelector ?? '') ?? []
  const isUnscheduled = fieldSelector === 'spec.nodeName='
  if (fieldSelector && !type && !wantedName && !isUnscheduled)
    throw new Error(`Cannot select by ${fieldSelector} in memory.`)
  const tests = (query.labelSelector ?? '')
    .split(',')
    .filter(Boolean)
    .map((term) => {
      const [, not = '', key = '', operator = '', value = ''] = /^(!?)([^!=]+)(!?==?)?(.*)$/.exec(term) ?? []
      return (labels: Record<string, string>) =>
        operator === ''
          ? Object.hasOwn(labels, key) !== (not === '!')
          : (labels[key] === value) !== operator.startsWith('!')
    })
  return ({ metadata: { namespace, name, labels = {} }, ...object }) =>
    (place.namespace === '' || namespace === place.namespace) &&
    (type === undefined || object.type === type) &&
    (wantedName === undefined || name === wantedName) &&
    (!isUnscheduled || !object.spec?.nodeName) &&
    tests.every((fits) => fits(labels))
}

/** What a request may change of an object: of the status only the status, else all but that and what is the server's own. */
function writable({ isStatus, collection }: Place, before: StoredObject, wanted: StoredObject): StoredObject {
  if (isStatus) return { ...before, status: wanted.status }
  const { uid, name, resourceVersion, creationTimestamp, deletionTimestamp } = before.metadata
  const fixed = { uid, name, resourceVersion, creationTimestamp, ...(deletionTimestamp ? { deletionTimestamp } : {}) }
  const hasStatus = /\/(persistentvolumes|persistentvolumeclaims|nodes)$/.test(collection)
  return {
    ...wanted,
    metadata: { ...wanted.metadata, ...fixed },
    ...(hasStatus && before.status !== undefined ? { status: before.status } : {}),
  }
}

/** RFC 7396. */
function merge(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else result[key] = merge(result[key], value)
  }
  return result
}

/** Objects are handed out as they are kept: nobody may change them. */
function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const field of Object.values(value)) freeze(field)
  return Object.freeze(value)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function timestamp(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`
}

function refusal({ method, path }: ApiRequest, status: number, reason: string, message: string): ApiError {
  if (status === 0) return unanswered({ method, path })
  return new ApiError(`${method} ${path} was refused (${status}): ${message}`, { status, reason })
}

function unanswered({ method, path }: ApiRequest): ApiError {
  return new ApiError(`Cannot reach the API server for ${method} ${path}: the connection was lost`, { status: 0 })
}

export function nextTurn(): Promise<void> {
  return new Promise(setImmediate)
}
