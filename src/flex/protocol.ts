/**
 * The FlexVolume protocol, without input or output: a call-out's arguments become an answer or a request to the daemon,
 * and the daemon's answer becomes one line of JSON. The order of arguments is the kubelet's own
 * (kubernetes, pkg/volume/flexvolume: driver-call.go, mounter.go, attacher.go, detacher.go, expander.go).
 */

/** What the kubelet is told (driver-call.go, DriverStatus). */
export interface FlexAnswer {
  status: 'Success' | 'Failure' | 'Not supported'
  message?: string
  device?: string
  volumeName?: string
  attached?: boolean
  capabilities?: FlexCapabilities
  /** Bytes. */
  volumeNewSize?: number
}

export interface FlexCapabilities {
  attach: boolean
  supportsMetrics: boolean
  fsGroup: boolean
  selinuxRelabel: boolean
  requiresFSResize: boolean
}

/** What a call-out asks of the daemon: always `POST <path>`. */
export interface FlexRequest {
  path: string
  body: Readonly<Record<string, unknown>>
}

/** What is to be done for a call-out. */
export type FlexTask = { answer: FlexAnswer } | { request: FlexRequest }

/** Options of a call-out, as the kubelet joins them: its own and the PV's, the latter winning. */
export type FlexOptions = Readonly<Record<string, string>>

/** The verbs of the FlexVolume specification; `true` when the kubelet needs it in attach mode only. */
const verbs = {
  init: false,
  getvolumename: false,
  attach: true,
  waitforattach: true,
  isattached: true,
  detach: true,
  mountdevice: true,
  unmountdevice: true,
  mount: false,
  unmount: false,
  expandvolume: false,
  expandfs: false,
} as const

type Verb = keyof typeof verbs

/** Whether `word` is a call-out of the kubelet. */
export function isFlexVerb(word: string | undefined): word is Verb {
  return word !== undefined && Object.hasOwn(verbs, word)
}

/** The kubelet compares this text exactly and never asks again until the driver is probed anew. */
export const notSupported: FlexAnswer = { status: 'Not supported' }

export function failure(message: string): FlexAnswer {
  return { status: 'Failure', message }
}

const volumeNameOption = 'kubernetes.io/pvOrVolumeName'

/** What is to be done for the call-out `args`, the verb first. Never throws: what is wrong becomes a `Failure`. */
export function decodeCallOut(args: readonly string[], { attach }: { attach: boolean }): FlexTask {
  const [verb, ...rest] = args
  if (!isFlexVerb(verb) || (verbs[verb] && !attach)) return { answer: notSupported }
  try {
    return tasks[verb](new Arguments(verb, rest), attach)
  } catch (error) {
    if (error instanceof ArgumentError) return { answer: failure(error.message) }
    throw error
  }
}

/*
 * attach, isattached and detach may be run by the controller manager, on a machine with neither daemon nor disk, and
 * expandvolume is: they answer from their arguments alone. The work of expandvolume is done in expandfs, on the node.
 */
const tasks: Record<Verb, (args: Arguments, attach: boolean) => FlexTask> = {
  init: (_args, attach) => ({
    answer: {
      status: 'Success',
      capabilities: { attach, supportsMetrics: true, fsGroup: true, selinuxRelabel: true, requiresFSResize: true },
    },
  }),
  getvolumename: (args) => {
    const [options] = args.take('json')
    return { answer: { status: 'Success', volumeName: args.volumeName(options) } }
  },
  attach: (args) => {
    const [options] = args.take('json', 'node')
    return { answer: { status: 'Success', device: `elastic-local/${args.volumeName(options)}` } }
  },
  isattached: (args) => {
    args.take('json', 'node')
    return { answer: { status: 'Success', attached: true } }
  },
  detach: (args) => {
    args.take('volume', 'node')
    return { answer: { status: 'Success' } }
  },
  waitforattach: (args) => {
    const [device, options] = args.take('device', 'json')
    return { request: { path: '/waitforattach', body: { device, options } } }
  },
  mountdevice: (args) => {
    const [targetDir, device, options] = args.take('dir', 'device', 'json')
    return { request: { path: '/mountdevice', body: { targetDir, device, options } } }
  },
  unmountdevice: (args) => {
    const [targetDir] = args.take('dir')
    return { request: { path: '/unmountdevice', body: { targetDir } } }
  },
  mount: (args) => {
    const [targetDir, options] = args.take('dir', 'json')
    return { request: { path: '/mount', body: { targetDir, options } } }
  },
  unmount: (args) => {
    const [targetDir] = args.take('dir')
    return { request: { path: '/unmount', body: { targetDir } } }
  },
  expandvolume: (args) => {
    args.take('json', 'mount path', 'size', 'size')
    return { answer: { status: 'Success' } }
  },
  expandfs: (args) => {
    const [options, device, targetDir, newSize, oldSize] = args.take('json', 'device', 'mount path', 'size', 'size')
    return { request: { path: '/expandfs', body: { device, targetDir, newSize, oldSize, options } } }
  },
}

class ArgumentError extends Error {}

type ArgumentKind = 'json' | 'dir' | 'device' | 'node' | 'volume' | 'mount path' | 'size'
type Taken<K extends readonly ArgumentKind[]> = { [I in keyof K]: K[I] extends 'json' ? FlexOptions : string }

/** The arguments of one call-out. Messages never show the options' values: there may be secrets among them. */
class Arguments {
  readonly #verb: Verb
  readonly #values: readonly string[]

  constructor(verb: Verb, values: readonly string[]) {
    this.#verb = verb
    this.#values = values
  }

  take<const K extends readonly ArgumentKind[]>(...kinds: K): Taken<K> {
    if (this.#values.length !== kinds.length) {
      const usage = [this.#verb, ...kinds.map((kind) => `<${kind}>`)].join(' ')
      throw new ArgumentError(
        `Cannot run ${this.#verb} with ${this.#values.length} arguments as they must be ${kinds.length}: ${usage}`,
      )
    }
    return kinds.map((kind, i) => this.#decode(kind, this.#values[i] as string)) as Taken<K>
  }

  volumeName(options: FlexOptions): string {
    const name = options[volumeNameOption]
    if (name) return name
    throw new ArgumentError(
      `Cannot run ${this.#verb} as option ${volumeNameOption} must be the volume's name: it is missing or empty`,
    )
  }

  #decode(kind: ArgumentKind, text: string): string | FlexOptions {
    if (kind === 'json') return this.#decodeOptions(text)
    // The device is empty for a driver that does not attach (expander.go).
    if (kind === 'dir' && text === '')
      throw new ArgumentError(`Cannot run ${this.#verb} as <dir> must be an absolute path: it is empty`)
    return text
  }

  #decodeOptions(text: string): FlexOptions {
    let options: unknown
    try {
      options = JSON.parse(text)
    } catch {
      throw new ArgumentError(
        `Cannot run ${this.#verb} as its options must be JSON: they are ${text.length} characters that are not`,
      )
    }
    if (typeof options !== 'object' || options === null || Array.isArray(options)) {
      const found = options === null ? 'null' : Array.isArray(options) ? 'an array' : `a ${typeof options}`
      throw new ArgumentError(`Cannot run ${this.#verb} as its options must be a JSON object: they are ${found}`)
    }
    for (const [key, value] of Object.entries(options)) {
      if (typeof value !== 'string')
        throw new ArgumentError(
          `Cannot run ${this.#verb} as option ${shorten(key)} must be a string: it is ${value === null ? 'null' : `of type ${typeof value}`}`,
        )
    }
    return options as FlexOptions
  }
}

const fieldTypes = {
  message: 'string',
  device: 'string',
  volumeName: 'string',
  attached: 'boolean',
  volumeNewSize: 'number',
} as const

/** The daemon's answer to a request, if it is one in the flex status shape; else a `Failure` that says what is wrong. */
export function decodeDaemonAnswer(statusCode: number, body: unknown): FlexAnswer {
  const wrong = (what: string) =>
    failure(`Cannot use the elastic-local daemon's answer (HTTP ${statusCode}) as ${what}. Is it of another version?`)
  if (typeof body !== 'object' || body === null) return wrong('it must be a JSON object')
  const given = body as Record<string, unknown>
  const { status } = given
  if (status !== 'Success' && status !== 'Failure' && status !== 'Not supported')
    return wrong(
      `status must be Success, Failure or Not supported: it is ${shorten(JSON.stringify(status) ?? 'missing')}`,
    )
  if (status === 'Success' && (statusCode < 200 || statusCode > 299))
    return wrong('Success must come with an HTTP status of 200 to 299')
  const answer: Record<string, unknown> = { status }
  for (const [field, type] of Object.entries(fieldTypes)) {
    const value = given[field]
    if (value === undefined || value === null) continue
    if (typeof value !== type || (type === 'number' && !Number.isSafeInteger(value)))
      return wrong(
        `${field} must be a ${type === 'number' ? 'whole number' : type}: it is ${shorten(JSON.stringify(value))}`,
      )
    answer[field] = value
  }
  if (status === 'Failure' && !answer.message)
    answer.message = 'The elastic-local daemon gave no reason. Check its log.'
  return answer as unknown as FlexAnswer
}

/** Longest message that is passed on; the kubelet puts it into an event, which the API server limits to 1 KiB. */
const maxMessageLength = 4096

/** One line of JSON, its line feed included. */
export function formatAnswer(answer: FlexAnswer): string {
  const message = answer.message === undefined ? {} : { message: shorten(answer.message, maxMessageLength) }
  return `${JSON.stringify({ ...answer, ...message })}\n`
}

function shorten(text: string, length = 80): string {
  return text.length > length ? `${text.slice(0, length)}…` : text
}
