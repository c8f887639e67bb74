import { AsyncLocalStorage } from 'node:async_hooks'
import type { ChildProcess } from 'node:child_process'
import type { FileHandle } from 'node:fs/promises'

/**
 * When a life ends, seen from a step: before it is taken; in its middle, where its command is killed as a control
 * group is; or when it is done and its result is not known yet, while other commands go on to their ends. `outlived`:
 * right after its command was started, which does nothing until it is let go.
 */
export type Moment = 'before' | 'during' | 'after' | 'outlived'

/** The step, counted from 0, that a life ends at. */
export interface Death {
  step: number
  moment: Moment
}

/** A change to the machine. */
export interface Step {
  /** For people to read. */
  label: string
  /** A program that is started, a line for one that runs, a write that can be cut short, or a change at once. */
  kind: 'command' | 'line' | 'write' | 'change'
}

const lives = new AsyncLocalStorage<Life>()
let begun = 0

/**
 * One life of a daemon, within this process. Whatever is called from `run` belongs to it, and each of its changes to
 * the machine is a step. When it is over it takes no step any more: those calls never resolve. What it began goes on
 * as the kernel has it, with its ends of all pipes closed; `gone` waits for that.
 */
export class Life {
  /** Which one of this process. */
  readonly number = begun++
  /** The steps taken since `arm`. */
  steps: Step[] = []
  isOver = false
  readonly ended: Promise<void>
  #death: Death | undefined
  #end: () => void = () => {}
  readonly #pending = new Set<Promise<unknown>>()
  #held: ChildProcess | undefined
  readonly #children = new Set<ChildProcess>()
  readonly #files = new Set<FileHandle>()
  /** Awaited before each step, to bring the steps of several requests into another order. */
  readonly #pace: () => Promise<unknown> | undefined

  constructor(parts: { pace?: () => Promise<unknown> } = {}) {
    this.#pace = parts.pace ?? (() => undefined)
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  /** The life of this whole process, if it is a daemon that is to be killed. */
  static whole: Life | undefined

  /** The life that the caller belongs to, if any. */
  static current(): Life | undefined {
    return lives.getStore() ?? Life.whole
  }

  /** Does something in this life. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return lives.run(this, work)
  }

  /** Counts steps from now on; ends the life at that one. */
  arm(death?: Death): void {
    this.steps = []
    this.#death = death
  }

  /** Counts a step, and tells at which moment of it the life ends; `before` also when it is over. */
  take(label: string, kind: Step['kind']): Moment | undefined {
    if (this.isOver) return 'before'
    this.steps.push({ label, kind })
    return this.#death?.step === this.steps.length - 1 ? this.#death.moment : undefined
  }

  /** Does a change to the machine as one step; `half` does a part of it. */
  async pass<T>(label: string, work: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> {
    await this.#pace()
    const moment = this.take(label, half ? 'write' : 'change')
    try {
      if (moment !== 'before') {
        const doing = moment === 'during' ? (half?.() ?? Promise.resolve()) : work()
        this.#wait(doing)
        const result = await doing
        if (!moment) return result as T
      }
    } catch (error) {
      if (!moment) throw error
    }
    this.end()
    return await new Promise<never>(() => {})
  }

  /** Has the kernel close the pipes to that process when this life ends, and `gone` wait for its end. */
  adopt(child: ChildProcess): void {
    this.#children.add(child)
    this.#wait(
      new Promise<void>((resolve) => {
        child.once('exit', resolve).once('error', () => resolve())
      }).finally(() => this.#children.delete(child)),
    )
  }

  /** Has the kernel close that file, too. */
  keep(file: FileHandle): void {
    this.#files.add(file)
  }

  #wait(work: Promise<unknown>): void {
    const waiting = work
      .catch(() => {})
      .finally(() => {
        this.#pending.delete(waiting)
      })
    this.#pending.add(waiting)
  }

  /** The end. `killing` that process with it. */
  end(killing?: ChildProcess): void {
    if (this.isOver) return
    this.isOver = true
    if (killing?.pid) process.kill(-killing.pid, 'SIGKILL')
    for (const child of this.#children) for (const stream of child.stdio) stream?.destroy()
    this.#end()
  }

  /** Stops a command, for it to go on in another life. */
  hold(child: ChildProcess): void {
    child.kill('SIGSTOP')
    this.#held = child
  }

  letGo(): void {
    this.#held?.kill('SIGCONT')
  }

  /** Resolves when nothing that was begun in this life runs any more. */
  async gone(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending)
    await Promise.all([...this.#files].map((file) => file.close()))
  }
}
