import type { VolumeErrorCode } from './errors.ts'

/** What is done to volumes, by kind; `finish`: what a crash has interrupted. */
export type Operation = 'create' | 'mount' | 'attach' | 'unmount' | 'grow' | 'remove' | 'finish'

/** What went wrong with a volume, and is not over. */
export interface Failure {
  operation: Operation
  code: VolumeErrorCode
  message: string
  at: Date
  /** Where it was to be seen, or not any more. */
  target?: string
}

/** Told of a failure, each time. */
export type OnFailure = (name: string, failure: Failure) => void

/** Whether only the request was wrong, or came at the wrong time, and the volume is as it was: whoever asked has the answer. */
function isRefusal({ operation, code }: Failure): boolean {
  if (code === 'busy') return operation !== 'unmount'
  if (code === 'no-space') return operation === 'grow'
  return code === 'invalid' || code === 'unavailable' || code === 'stopping'
}

/**
 * Each volume's failures that are not over: one of a kind of operation, and of a target. It is over when the same succeeds, when
 * the volume is gone, and of a mount also when nobody wants it any more. A new process knows of none.
 */
export class Failures {
  readonly #known = new Map<string, Map<string, Failure>>()
  readonly #listeners = new Set<OnFailure>()

  /** Has `listener` told of each failure from now on. */
  onFailure(listener: OnFailure): void {
    this.#listeners.add(listener)
  }

  note(name: string, failure: Failure): void {
    if (isRefusal(failure)) return
    const known = this.#known.get(name) ?? new Map<string, Failure>()
    this.#known.set(name, known)
    const key = keyOf(failure)
    // The newest last.
    known.delete(key)
    known.set(key, failure)
    for (const listener of this.#listeners) listener(name, failure)
  }

  /** That has succeeded, and with it what it shows to be well. */
  end(name: string, done: Pick<Failure, 'operation' | 'target'>): void {
    const known = this.#known.get(name)
    if (!known) return
    for (const [key, failure] of known) if (isEnded(failure, done)) known.delete(key)
    if (known.size === 0) this.#known.delete(name)
  }

  /** The volume is gone. */
  forget(name: string): void {
    this.#known.delete(name)
  }

  /** Those of a volume, the newest last. */
  of(name: string): Failure[] {
    return [...(this.#known.get(name)?.values() ?? [])]
  }
}

const keyOf = ({ operation, target = '' }: Pick<Failure, 'operation' | 'target'>) => `${operation} ${target}`

function isEnded(failure: Failure, done: Pick<Failure, 'operation' | 'target'>): boolean {
  if (keyOf(failure) === keyOf(done)) return true
  // Nobody wants it there any more.
  if (done.operation === 'unmount') return failure.operation === 'mount' && failure.target === done.target
  // What was begun when the daemon started, and could not be finished then.
  if (done.operation === 'create') return failure.operation === 'finish'
  // What can be mounted is whole, and is not to be removed; a growth that was cut short the journal has.
  return done.operation === 'mount' && failure.operation !== 'unmount'
}
