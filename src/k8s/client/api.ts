import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { RequestOptions } from 'node:https'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import {
  HttpMethod,
  KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  RequestContext,
} from '@kubernetes/client-node'
import { Agent, type Dispatcher, errors } from 'undici'
import { type Observe, observed } from '../../meter.ts'
import { messageOf } from '../../volume/errors.ts'

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
  /** The API server's word, such as `AlreadyExists`; empty without an answer, but for `silentReason`. */
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

/** Of a watch that was answered, and on which nothing came for longer than an API server takes for a bookmark. */
export const silentReason = 'Silent'

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

/** Whether a version came after another of the same kind: they compare since Kubernetes 1.35, and always did in practice. */
export function isLater(version: string, than: string): boolean {
  return BigInt(version) > BigInt(than)
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
/**
 * The API server writes a bookmark about once a minute; a watch that is silent for longer is dead. So is a connection
 * that does not answer a ping before the next one is due.
 */
const usualTimes = { requestMs: 15_000, watchIdleMs: 150_000, pingMs: 10_000 }
/** Where HTTP/2 is not spoken; elsewhere all requests share one. */
const mostConnections = 64

/**
 * The way to the API server: the file `kubeconfig`, else that of a pod, else `KUBECONFIG` or `~/.kube/config`; of it, the
 * context of that name, else the current one. `asKubectl`: that of a pod comes last, as kubectl has it. Throws an `Error`
 * that says what is missing.
 */
export function findKubeConfig(
  kubeconfig: string | undefined,
  { context, asKubectl = false }: { context?: string | undefined; asKubectl?: boolean } = {},
): KubeConfig {
  const config = readKubeConfig(kubeconfig, { asKubectl })
  if (context !== undefined) {
    if (!config.getContextObject(context))
      throw new Error(`Cannot use context ${context} as the kubeconfig has none of that name.`)
    config.setCurrentContext(context)
  }
  const server = config.getCurrentCluster()?.server
  const current = config.getContextObject(config.getCurrentContext())
  if (!server && current)
    throw new Error(
      `Cannot find the API server as context ${current.name} of the kubeconfig is of cluster ${current.cluster}, which is not in it.`,
    )
  if (!server || server === 'http://localhost:8080')
    throw new Error(
      'Cannot find the API server as there is neither a service account nor a kubeconfig: name one with --kubeconfig.',
    )
  return config
}

/** The same, be there a way to the API server in it or not. Throws an `Error` for what cannot be read. */
export function readKubeConfig(kubeconfig: string | undefined, { asKubectl }: { asKubectl: boolean }): KubeConfig {
  const config = new KubeConfig()
  const hasOwn = () => Boolean(process.env.KUBECONFIG) || existsSync(join(homedir(), '.kube', 'config'))
  try {
    if (kubeconfig) config.loadFromFile(kubeconfig)
    else if (process.env.KUBERNETES_SERVICE_HOST && !(asKubectl && hasOwn())) config.loadFromCluster()
    else config.loadFromDefault()
  } catch (error) {
    throw new Error(`Cannot read ${kubeconfig ?? 'the kubeconfig'}: ${messageOf(error)}`, { cause: error })
  }
  return config
}

interface Credentials {
  headers: Readonly<Record<string, string>>
  dispatcher: Dispatcher
}

/**
 * Requests over one kept connection (HTTP/2, or HTTP/1.1 and several, where something in between speaks no other).
 * client-node reads the configuration and the credentials; its own requests open a connection each, and drop fields of
 * an answer that they do not know (docs/decisions/0006-api-client.md).
 */
export class ApiClient implements Api {
  readonly #config: KubeConfig
  readonly #server: URL
  readonly #times: typeof usualTimes
  #credentials: (Credentials & { readAt: number }) | undefined
  #dispatcher: { madeFrom: string; dispatcher: Dispatcher } | undefined

  /** `times`: how long a request may take, a watch be silent, and until a connection is asked whether it lives. */
  constructor(config: KubeConfig, times = usualTimes) {
    this.#config = config
    this.#times = times
    this.#server = new URL(config.getCurrentCluster()?.server ?? '')
  }

  async send<T>({ method, path, query = {}, body }: ApiRequest): Promise<T> {
    const signal = AbortSignal.timeout(this.#times.requestMs)
    const response = await this.#open(method, path, query, { signal, body, bodyTimeout: 0 })
    try {
      return (await response.json()) as T
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
    const timer = setTimeout(() => late.abort(new Error(`no answer within ${requestMs} ms`)), requestMs)
    const either = AbortSignal.any([signal, late.signal])
    const opening = this.#open('GET', path, { ...query, watch: 'true' }, { signal: either, bodyTimeout: watchIdleMs })
    const response = await opening.finally(() => clearTimeout(timer))
    // Of a reader that stops before its end, too.
    response.on('error', () => {})
    try {
      for await (const line of linesOf(response)) if (line !== '') yield JSON.parse(line) as WatchEvent<T>
    } catch (error) {
      if (!(error instanceof errors.BodyTimeoutError)) throw unanswered('GET', path, error)
      throw unanswered('GET', path, new Error(`nothing was received for ${watchIdleMs} ms`), silentReason)
    } finally {
      response.destroy()
    }
  }

  /** Resolves with an answer of success, its body unread. */
  async #open(
    method: ApiRequest['method'],
    path: string,
    query: Readonly<Record<string, string>>,
    { signal, body, bodyTimeout }: { signal: AbortSignal; body?: unknown; bodyTimeout: number },
  ): Promise<Dispatcher.ResponseData['body']> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    const ask = async () => {
      const { headers, dispatcher } = await this.#authorize()
      return await dispatcher.request({
        method,
        origin: this.#server.origin,
        path: `${this.#server.pathname.replace(/\/$/, '')}${path}`,
        query,
        signal,
        headersTimeout: 0,
        bodyTimeout,
        headers: {
          ...headers,
          accept: 'application/json',
          'user-agent': 'elastic-local',
          ...(body === undefined ? {} : { 'content-type': type }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    }
    const response = await ask().catch((error) => {
      throw unanswered(method, path, error)
    })
    const { statusCode } = response
    if (statusCode >= 200 && statusCode <= 299) return response.body
    if (statusCode === 401) this.#credentials = undefined
    throw await refused(method, path, response)
  }

  async #authorize(): Promise<Credentials> {
    const now = performance.now()
    if (this.#credentials && now - this.#credentials.readAt < credentialsMs) return this.#credentials
    const options: RequestOptions = { headers: {} }
    await this.#config.applyToHTTPSOptions(options)
    const basic = options.auth ? { authorization: `Basic ${Buffer.from(options.auth).toString('base64')}` } : {}
    const headers = { ...(options.headers as Record<string, string>), ...basic, ...(await this.#readToken()) }
    this.#credentials = { readAt: now, headers, dispatcher: await this.#dispatcherFor(options) }
    return this.#credentials
  }

  /** A token of a file, which client-node would take for new for as long as the hour is set back. */
  async #readToken(): Promise<Record<string, string>> {
    const file: unknown = this.#config.getCurrentUser()?.authProvider?.config?.tokenFile
    return typeof file === 'string' ? { Authorization: `Bearer ${(await readFile(file, 'utf8')).trim()}` } : {}
  }

  /** One, and so its connection, for as long as the certificates stay the same and no connection is lost. */
  async #dispatcherFor({ ca, cert, key, rejectUnauthorized, servername }: RequestOptions): Promise<Dispatcher> {
    const tls = { ca, cert, key, rejectUnauthorized, servername }
    const madeFrom = JSON.stringify(tls)
    if (this.#dispatcher?.madeFrom === madeFrom) return this.#dispatcher.dispatcher
    const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined && value !== null))
    const dispatcher = this.#config.getCurrentCluster()?.proxyUrl
      ? await this.#viaProxy()
      : new Agent({ connect: given, connections: mostConnections, pingInterval: this.#times.pingMs })
    this.#dispatcher = { madeFrom, dispatcher }
    // While what was begun goes on where the API server wants no more requests, undici would hold the next one back.
    dispatcher.once('disconnect', () => {
      if (this.#dispatcher?.dispatcher !== dispatcher) return
      this.#dispatcher = undefined
      this.#credentials = undefined
    })
    return dispatcher
  }

  /** client-node knows the kinds of proxies. */
  async #viaProxy(): Promise<Dispatcher> {
    const context = new RequestContext(this.#server.href, HttpMethod.GET)
    await this.#config.applySecurityAuthentication(context)
    return context.getDispatcher() ?? new Agent()
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

/** The lines of a text that comes bit by bit. */
async function* linesOf(stream: Readable): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of stream.setEncoding('utf8')) {
    const lines = `${rest}${chunk}`.split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
  if (rest !== '') yield rest
}

function unanswered(method: string, path: string, error: unknown, reason = ''): ApiError {
  return new ApiError(
    `Cannot reach the API server for ${method} ${path}: ${messageOf(error)}`,
    { status: 0, reason },
    { cause: error },
  )
}

async function refused(
  method: string,
  path: string,
  { statusCode: status, headers, body }: Dispatcher.ResponseData,
): Promise<ApiError> {
  const text = await body.text().catch(() => '')
  let answer: { message?: string; reason?: string } = {}
  try {
    answer = JSON.parse(text) as typeof answer
  } catch {
    // Something between us and the API server answers in its own words.
  }
  const message = answer.message || text.slice(0, 200)
  // Seconds; a date, as it may be elsewhere, no API server says.
  const retryAfterMs = Number.parseInt(String(headers['retry-after'] ?? '0'), 10) * 1000 || 0
  return new ApiError(`${method} ${path} was refused (${status}): ${message}`, {
    status,
    reason: answer.reason ?? '',
    retryAfterMs,
  })
}
