import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { patience } from '../patience.ts'

export interface KubeMetadata {
  name: string
  namespace?: string
  uid: string
  resourceVersion: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
  finalizers?: string[]
  deletionTimestamp?: string
}

/** What an object of any kind has; name a type where the fields matter. */
export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: KubeMetadata
  // biome-ignore lint/suspicious/noExplicitAny: tests read the fields of every kind
  [field: string]: any
}

/** The API server refused a request. */
export class ApiError extends Error {
  readonly status: number

  constructor(what: string, status: number, answer: string) {
    super(`Cannot ${what}: the API server answered ${status}: ${readMessage(answer)}`)
    this.name = 'ApiError'
    this.status = status
  }
}

type WatchEvent = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'; object: KubeObject }

/** Speaks with an API server as one user. */
export class ApiClient {
  readonly #server: string
  readonly #token: string
  readonly #agent: Agent
  readonly #closing = new AbortController()

  constructor({ server, ca, token }: { server: string; ca: string; token: string }) {
    this.#server = server
    this.#token = token
    // A connection for each request: none is left from before a restart.
    this.#agent = new Agent({ ca, keepAlive: false })
  }

  /** Makes one request. Throws `ApiError`, or what kept the server from answering. */
  async request<T = KubeObject>(method: string, path: string, body?: object): Promise<T> {
    const response = await this.#send(method, path, AbortSignal.timeout(60_000 * patience), body)
    return JSON.parse(await readAll(response)) as T
  }

  /**
   * Watches an object, or a list, by its path until it is as awaited, and gives it. An object that is not there is
   * `undefined`. A server that goes away in between is waited for. Throws with the last state when
   * that much time is up on a quiet machine, see `patience`.
   */
  async waitFor<T = KubeObject>(
    path: string,
    until: (state: T | undefined) => boolean | Promise<boolean>,
    timeoutMs = 60_000,
  ): Promise<T> {
    const deadline = AbortSignal.any([AbortSignal.timeout(timeoutMs * patience), this.#closing.signal])
    let last: unknown = 'never seen'
    for await (const state of this.#states<T>(path, deadline)) {
      last = state instanceof Error ? state.message : (state ?? 'not there')
      if (!(state instanceof Error) && (await until(state))) return state as T
    }
    const limit = this.#closing.signal.aborted ? 'until its cluster was closed' : `in ${timeoutMs * patience} ms`
    throw new Error(`${path} has not become as awaited ${limit}; it is ${JSON.stringify(last, null, 1)}`)
  }

  /** Ends all waiting; it throws as if time were up. */
  close(): void {
    this.#closing.abort()
  }

  /** The states of an object or list, and why they could not be seen in between. */
  async *#states<T>(path: string, signal: AbortSignal): AsyncGenerator<T | undefined | Error> {
    while (!signal.aborted) {
      try {
        yield* this.#watch<T>(path, signal)
      } catch (error) {
        if (signal.aborted) return
        // 404: a kind that is not known yet; 410: too old a watch.
        const lasting = error instanceof ApiError && error.status < 500 && ![404, 410, 429].includes(error.status)
        if (lasting || !(error instanceof Error)) throw error
        yield error
      }
      await sleep(50, undefined, { signal }).catch(() => {})
    }
  }

  /** The states that one watch shows: first what is there, then each change. */
  async *#watch<T>(path: string, signal: AbortSignal): AsyncGenerator<T | undefined> {
    const { url, isList } = buildWatchUrl(path)
    const response = await this.#send('GET', url, signal)
    const objects = new Map<string, KubeObject>()
    let isComplete = false
    try {
      for await (const line of readLines(response)) {
        const { type, object } = JSON.parse(line) as WatchEvent
        if (type === 'ERROR') throw new ApiError(`watch ${path}`, object.code, JSON.stringify(object))
        if (type === 'DELETED') objects.delete(object.metadata.uid)
        else if (type !== 'BOOKMARK') objects.set(object.metadata.uid, object)
        else if (object.metadata.annotations?.['k8s.io/initial-events-end']) isComplete = true
        else continue
        const items = [...objects.values()]
        if (isComplete) yield (isList ? { items } : items[0]) as T | undefined
      }
    } finally {
      response.destroy()
    }
  }

  async #send(method: string, path: string, signal: AbortSignal, body?: object): Promise<IncomingMessage> {
    const headers = { authorization: `Bearer ${this.#token}`, accept: 'application/json' }
    const contentType = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    const call = request(`${this.#server}${path}`, {
      method,
      agent: this.#agent,
      signal,
      headers: body ? { ...headers, 'content-type': contentType } : headers,
    })
    // One that ends a watch comes when nobody waits for the answer any more.
    call.on('error', () => {})
    call.end(body && JSON.stringify(body))
    const [response] = (await once(call, 'response')) as [IncomingMessage]
    const { statusCode = 0 } = response
    if (statusCode >= 300) throw new ApiError(`${method} ${path}`, statusCode, await readAll(response))
    return response
  }
}

/**
 * What to watch for a path such as `/api/v1/pods?labelSelector=a=b` (a list) or `/api/v1/namespaces/default/pods/a`
 * (an object): all that is there first, then a bookmark, then the changes.
 */
export function buildWatchUrl(path: string): { url: string; isList: boolean } {
  const { pathname, searchParams } = new URL(path, 'https://server')
  const words = pathname.split('/').slice(1)
  const kindAt = words[0] === 'api' ? 2 : 3
  const inNamespace = words[kindAt] === 'namespaces' && words.length > kindAt + 2
  const isList = words.length === kindAt + (inNamespace ? 3 : 1)
  if (!isList) searchParams.set('fieldSelector', `metadata.name=${words.pop()}`)
  for (const name of ['watch', 'sendInitialEvents', 'allowWatchBookmarks']) searchParams.set(name, 'true')
  searchParams.set('resourceVersionMatch', 'NotOlderThan')
  return { url: `/${words.join('/')}?${searchParams}`, isList }
}

async function readAll(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  return text
}

async function* readLines(response: IncomingMessage): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of response.setEncoding('utf8')) {
    const lines = `${rest}${chunk}`.split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
}

/** The message of a Status object, or the text as it is. */
function readMessage(answer: string): string {
  try {
    return JSON.parse(answer).message ?? answer
  } catch {
    return answer
  }
}
