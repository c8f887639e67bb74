import type { Log } from './log.ts'

/** Something that was done. */
export interface Done {
  /** Its kind, of which there are few: `mount`, `lvcreate`, `GET`. */
  what: string
  /** What it was done to: a volume, a claim, a path. */
  about?: string
  tookMs: number
  /** `success`, or in a word why not. */
  result: string
}

export type Observe = (done: Done) => void

/** Work that waits and work that is under way, as it is when it is asked. */
export interface Backlog {
  readonly name: string
  readonly waiting: number
  readonly running: number
  /** Since when the oldest work under way runs, in milliseconds; 0 when there is none. */
  readonly longestMs: number
}

/** Whoever counts what a process does: told by the few places where everything passes. */
export interface Meter {
  /** What the engine did to a volume. */
  operation: Observe
  /** What a kubelet asked for. */
  callout: Observe
  /** A program that ran, or a command of LVM's shell. */
  command: Observe
  /** A request to the API server. */
  request: Observe
  /** A piece of work of a queue. */
  work: Observe
  /** Who adds itself takes itself away when it ends. */
  backlogs: Set<Backlog>
}

type Kind = Exclude<keyof Meter, 'backlogs'>
const kinds = ['operation', 'callout', 'command', 'request', 'work'] as const satisfies Kind[]

/** A meter that says each thing in the log, on level `debug`, and has it counted once `count()` was told by whom. */
export function buildMeter(log: Pick<Log, 'debug'>): Meter & { count(by: Record<Kind, Observe>): void } {
  let counted: Record<Kind, Observe> | undefined
  const observers = kinds.map((kind) => {
    const observe: Observe = (done) => {
      const { what, about = '', tookMs, result } = done
      log.debug(`${[kind, what, about].filter(Boolean).join(' ')}: ${result}`, { tookMs: Math.round(tookMs) })
      counted?.[kind](done)
    }
    return [kind, observe]
  })
  return {
    ...(Object.fromEntries(observers) as Record<Kind, Observe>),
    backlogs: new Set(),
    count: (by) => {
      counted = by
    },
  }
}

/** Runs `work` and tells of it. `describe` gives the word for an error. */
export async function observed<T>(
  observe: Observe | undefined,
  done: Pick<Done, 'what' | 'about'>,
  work: () => Promise<T>,
  describe: (error: unknown) => string = () => 'failed',
): Promise<T> {
  if (!observe) return await work()
  const beganAt = performance.now()
  let result = 'success'
  try {
    return await work()
  } catch (error) {
    result = describe(error)
    throw error
  } finally {
    observe({ ...done, tookMs: performance.now() - beganAt, result })
  }
}

/** The object, telling of each call of some of its methods; the first argument, if it is a text, is what it is about. */
export function observeMethods<T extends object, K extends keyof T & string>(
  object: T,
  names: readonly K[],
  observe: Observe,
  describe: (error: unknown) => string,
): T {
  const observedMethods = new Map<PropertyKey, unknown>(
    names.map((what) => {
      const method = (object[what] as (...args: unknown[]) => Promise<unknown>).bind(object)
      const call = (...args: unknown[]) => {
        const [first] = args
        const about = typeof first === 'string' ? first : (first as { name?: string } | undefined)?.name
        return observed(observe, { what, ...(about ? { about } : {}) }, () => method(...args), describe)
      }
      return [what, call]
    }),
  )
  const bound = new Map<PropertyKey, unknown>()
  return new Proxy(object, {
    get: (target, key) => {
      const known = observedMethods.get(key) ?? bound.get(key)
      if (known) return known
      const value = Reflect.get(target, key, target)
      if (typeof value !== 'function') return value
      // Private fields are the object's own, not the proxy's.
      const method = value.bind(target)
      bound.set(key, method)
      return method
    },
  })
}
