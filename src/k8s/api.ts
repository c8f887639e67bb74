import { type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent, type RequestOptions, request as requestHttps } from 'node:https'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { KubeConfig, type KubernetesListObject, type KubernetesObject } from '@kubernetes/client-node'
import { type Observe, observed } from '../meter.ts'
import { messageOf } from '../volume/errors.ts'

/** One request to the API server. */
export interface ApiRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Absolute, as the API server has it: `/api/v1/nodes/one`. */
  path: string
  query?: Readonly<Record<string, string>>
  /** Sent as JSON; for PATCH a merge patch (RFC 7386). */
  body?: unknown
}

/** One line of a watch. */
export type WatchEvent<T> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: T }
  | { type: 'ERROR'; object: { code?: number; message?: string } }

/** The API server, for all that this project asks of it. Both throw `ApiError`. */
export interface Api {
  send<T>(request: ApiRequest): Promise<T>
  /** Ends when the API server ends the watch, and with an error when the connection is lost. */
  watch<T extends KubernetesObject>(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent<T>>
}

/** A request that failed: the API server refused it, or was not reached. */
export class ApiError extends Error {
  /** The HTTP status; 0 when there was no answer, so that nobody knows whether the request was carried out. */
  readonly status: number
  /** The API server's word, such as `AlreadyExists`; empty without an answer. */
  readonly reason: string
  /** How long the API server wants to be left alone with this; 0 when it did not say. */
  readonly retryAfterMs: number

  constructor(
    message: string,
    answer: { status: number; reason?: string; retryAfterMs?: number },
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.name = 'ApiError'
    this.status = answer.status
    this.reason = answer.reason ?? ''
    this.retryAfterMs = answer.retryAfterMs ?? 0
  }
}

/** How long to wait after that error: longer than `backoffMs` where the API server wants that, but at most `mostMs`. */
export function delayAfter(error: unknown, backoffMs: number, mostMs: number): number {
  return Math.min(mostMs, Math.max(backoffMs, error instanceof ApiError ? error.retryAfterMs : 0))
}

/** Whether `error` is the API server's answer with one of these statuses. */
export function hasStatus(error: unknown, ...statuses: number[]): boolean {
  return error instanceof ApiError && statuses.includes(error.status)
}

/** For `catch`: passes over the API server's answer with one of these statuses, and throws anything else. */
export function unless(...statuses: number[]): (error: unknown) => void {
  return (error) => {
    if (!hasStatus(error, ...statuses)) throw error
  }
}

/** For `catch`: the object was changed or is gone in the meantime, which brings it back to whoever follows it. */
export const unlessOvertaken = unless(404, 409)

/** What `work` gives, or nothing when the API server says that the object is not there. */
export async function orMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (hasStatus(error, 404)) return undefined
    throw error
  }
}

const pageSize = '500'

/** All objects of one kind, in pages of the same version. */
export async function* listPages<T extends KubernetesObject>(
  api: Pick<Api, 'send'>,
  path: string,
  query: Readonly<Record<string, string>> = {},
): AsyncGenerator<KubernetesListObject<T>> {
  let next = ''
  do {
    const page: KubernetesListObject<T> = await api.send({
      method: 'GET',
      path,
      query: { ...query, limit: pageSize, ...(next ? { continue: next } : {}) },
    })
    yield page
    next = page.metadata?._continue ?? (page.metadata as { continue?: string } | undefined)?.continue ?? ''
  } while (next)
}

/** Credentials are read anew after so long, as tokens in files are replaced while we run. */
const credentialsMs = 10_000
/** The API server writes a bookmark about once a minute; a watch that is silent for longer is dead. */
const usualTimes = { requestMs: 15_000, watchIdleMs: 150_000 }
const mostConnections = 64

/**
 * The way to the API server: the file `kubeconfig`, else that of a pod, else `KUBECONFIG` or `~/.kube/config`; of it, the
 * context of that name, else the current one. Throws an `Error` that says what is missing.
 */
export function findKubeConfig(kubeconfig: string | undefined, context?: string): KubeConfig {
  const config = new KubeConfig()
  try {
    if (kubeconfig) config.loadFromFile(kubeconfig)
    else if (process.env.KUBERNETES_SERVICE_HOST) config.loadFromCluster()
    else config.loadFromDefault()
  } catch (error) {
    throw new Error(`Cannot read ${kubeconfig ?? 'the kubeconfig'}: ${messageOf(error)}`, { cause: error })
  }
  if (context !== undefined) {
    if (!config.getContextObject(context))
      throw new Error(`Cannot use context ${context} as the kubeconfig has none of that name.`)
    config.setCurrentContext(context)
  }
  const server = config.getCurrentCluster()?.server
  if (!server || server === 'http://localhost:8080')
    throw new Error(
      'Cannot find the API server as there is neither a service account nor a kubeconfig: name one with --kubeconfig.',
    )
  return config
}

/**
 * Requests over kept connections. client-node reads the configuration and the credentials; its own requests open a
 * connection each, and drop fields of an answer that they do not know (docs/decisions/0006-api-client.md).
 */
export class ApiClient implements Api {
  readonly #config: KubeConfig
  readonly #server: URL
  readonly #times: typeof usualTimes
  #credentials: { readAt: number; headers: Record<string, string>; agent: Agent } | undefined
  #agent: { madeFrom: string; agent: Agent } | undefined

  /** `times`: how long a request may take, and a watch be silent. */
  constructor(config: KubeConfig, times = usualTimes) {
    this.#config = config
    this.#times = times
    this.#server = new URL(config.getCurrentCluster()?.server ?? '')
  }

  async send<T>({ method, path, query = {}, body }: ApiRequest): Promise<T> {
    const response = await this.#open(
      method,
      path,
      query,
      AbortSignal.timeout(this.#times.requestMs),
      body === undefined ? undefined : JSON.stringify(body),
    )
    try {
      return JSON.parse(await text(response)) as T
    } catch (error) {
      throw unanswered(method, path, error)
    }
  }

  async *watch<T extends KubernetesObject>(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<T>> {
    const { requestMs, watchIdleMs } = this.#times
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), requestMs)
    const opening = this.#open('GET', path, { ...query, watch: 'true' }, AbortSignal.any([signal, late.signal]))
    const response = await opening.finally(() => clearTimeout(timer))
    response.setTimeout(watchIdleMs, () => response.destroy(new Error(`nothing came for ${watchIdleMs} ms`)))
    try {
      for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY }))
        if (line !== '') yield JSON.parse(line) as WatchEvent<T>
      // readline ends in the same way for a broken connection.
      if (!response.complete) throw response.errored ?? new Error('the connection was lost')
    } catch (error) {
      throw unanswered('GET', path, error)
    } finally {
      response.destroy()
    }
  }

  /** Resolves with an answer of success, its body unread. */
  async #open(
    method: string,
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
    body?: string,
  ): Promise<IncomingMessage> {
    const { headers, agent } = await this.#authorize().catch((error) => {
      throw unanswered(method, path, error)
    })
    const url = new URL(`${this.#server.pathname.replace(/\/$/, '')}${path}`, this.#server)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    const options: RequestOptions = {
      method,
      agent,
      signal,
      headers: {
        ...headers,
        accept: 'application/json',
        'user-agent': 'elastic-local',
        ...(body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
      },
    }
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request =
        url.protocol === 'http:' ? requestHttp(url, { ...options, agent: undefined }) : requestHttps(url, options)
      request.once('response', resolve)
      request.once('error', (error) => reject(unanswered(method, path, error)))
      request.end(body)
    })
    const status = response.statusCode ?? 0
    if (status >= 200 && status <= 299) return response
    if (status === 401) this.#credentials = undefined
    throw await refused(method, path, status, response)
  }

  async #authorize(): Promise<{ headers: Record<string, string>; agent: Agent }> {
    const now = performance.now()
    if (this.#credentials && now - this.#credentials.readAt < credentialsMs) return this.#credentials
    const options: RequestOptions = { headers: {} }
    await this.#config.applyToHTTPSOptions(options)
    const basic = options.auth ? { authorization: `Basic ${Buffer.from(options.auth).toString('base64')}` } : {}
    const credentials = {
      readAt: now,
      headers: { ...(options.headers as Record<string, string>), ...basic },
      agent: this.#config.getCurrentCluster()?.proxyUrl ? (options.agent as Agent) : this.#agentFor(options),
    }
    this.#credentials = credentials
    return credentials
  }

  /** One agent, and so its open connections, for as long as the certificates stay the same. */
  #agentFor({ ca, cert, key, rejectUnauthorized, servername }: RequestOptions): Agent {
    const tls = { ca, cert, key, rejectUnauthorized, servername }
    const madeFrom = JSON.stringify(tls)
    if (this.#agent?.madeFrom !== madeFrom) {
      const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined && value !== null))
      const agent = new Agent({ ...given, keepAlive: true, keepAliveMsecs: 30_000, maxSockets: mostConnections })
      this.#agent = { madeFrom, agent }
    }
    return this.#agent.agent
  }
}

/** The API, telling of each request but watches, with the API server's status as the result. */
export function observeApi(api: Api, observe: Observe): Api {
  const describe = (error: unknown) =>
    error instanceof ApiError && error.status > 0 ? String(error.status) : 'unanswered'
  return {
    watch: (path, query, signal) => api.watch(path, query, signal),
    send: (request) =>
      observed(observe, { what: request.method, about: request.path }, () => api.send(request), describe),
  }
}

function unanswered(method: string, path: string, error: unknown): ApiError {
  return new ApiError(
    `Cannot reach the API server for ${method} ${path}: ${messageOf(error)}`,
    { status: 0 },
    { cause: error },
  )
}

async function refused(method: string, path: string, status: number, response: IncomingMessage): Promise<ApiError> {
  const body = await text(response).catch(() => '')
  let answer: { message?: string; reason?: string } = {}
  try {
    answer = JSON.parse(body) as typeof answer
  } catch {
    // Something between us and the API server answers in its own words.
  }
  const message = answer.message || body.slice(0, 200)
  // Seconds; a date, as it may be elsewhere, no API server says.
  const retryAfterMs = Number.parseInt(response.headers['retry-after'] ?? '0', 10) * 1000 || 0
  return new ApiError(`${method} ${path} was refused (${status}): ${message}`, {
    status,
    reason: answer.reason ?? '',
    retryAfterMs,
  })
}
