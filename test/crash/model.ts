/** What a history asks for, and a model of what that does to a volume. */

export const pods = ['a', 'b'] as const
export type Pod = (typeof pods)[number]

/** Sizes are in steps, as the smallest differs between filesystems; see `sizeOf` of a history. */
export type Request = { name: string } & (
  | { kind: 'create'; size: number }
  /** `create`: of what size it is made if it is not there. */
  | { kind: 'mount'; pod: Pod; readOnly: boolean; create?: number | undefined }
  | { kind: 'unmount'; pod: Pod }
  | { kind: 'grow'; size: number | 'huge' }
  | { kind: 'remove' }
)

/** A volume that exists, and what its only file holds. */
export interface Volume {
  size: number
  mounts: Partial<Record<Pod, 'rw' | 'ro'>>
  text?: string | undefined
}
export type State = Volume | undefined

/** A request and what was answered: an action, an error's code, or nothing as the daemon was killed before. */
export interface Call {
  request: Request
  answer: string | undefined
}

/** What a volume is after a request that nothing disturbs, and the answer. */
function apply(state: State, request: Request): [answer: string, State] {
  switch (request.kind) {
    case 'create':
      return state ? ['unchanged', state] : ['created', newVolume(request.size)]
    case 'mount': {
      if (!state && request.create === undefined) return ['not-found', state]
      const volume = state ?? newVolume(request.create ?? 0)
      const seen = volume.mounts[request.pod]
      if (seen) return [request.readOnly && seen === 'rw' ? 'busy' : 'unchanged', volume]
      const mounts = { ...volume.mounts, [request.pod]: request.readOnly ? 'ro' : 'rw' }
      return ['mounted', { ...volume, mounts }]
    }
    case 'unmount': {
      if (!state?.mounts[request.pod]) return ['unchanged', state]
      const { [request.pod]: _, ...mounts } = state.mounts
      return ['unmounted', { ...state, mounts }]
    }
    case 'grow': {
      if (!state) return ['not-found', state]
      if (request.size === 'huge') return ['no-space', state]
      const size = Math.max(request.size, state.size)
      return [size > state.size ? 'grown' : 'unchanged', { ...state, size }]
    }
    case 'remove':
      if (!state) return ['unchanged', state]
      return Object.keys(state.mounts).length > 0 ? ['busy', state] : ['removed', undefined]
  }
}

const newVolume = (size: number): Volume => ({ size, mounts: {} })

/** What an unanswered request can leave half done. */
function applyHalf(state: State, request: Request): State {
  if (!state) return request.kind === 'mount' && request.create !== undefined ? newVolume(request.create) : state
  if (request.kind !== 'grow' || request.size === 'huge') return state
  return { ...state, size: Math.max(request.size, state.size) }
}

/**
 * Every state in which a volume can be after calls that were under way at once: as if they had come one after the
 * other, in some order in which each gets its answer. One that was never answered was done, half done or not at all;
 * then others may have found its work done or finished it, so of theirs only the failures are compared.
 */
export function possibleAfter(states: readonly State[], calls: readonly Call[]): State[] {
  const isExact = calls.every(({ answer }) => answer !== undefined)
  const fits = (call: Call, answer: string) =>
    call.answer === undefined ||
    call.answer === answer ||
    ((!isExact || call.answer === anyAction) && isAction(call.answer) && isAction(answer))
  const found = new Map<string, State>()
  const seen = new Set<string>()
  const visit = (state: State, left: readonly Call[]) => {
    const here = key(state)
    const mark = `${here} ${left.map((call) => calls.indexOf(call))}`
    if (seen.has(mark)) return
    seen.add(mark)
    if (left.every(({ answer }) => answer === undefined)) found.set(here, state)
    for (const call of left) {
      const others = left.filter((other) => other !== call)
      const { request } = call
      const [answer, next] = apply(state, request)
      if (fits(call, answer)) visit(next, others)
      if (call.answer === undefined) visit(applyHalf(state, request), others)
    }
  }
  for (const state of states) visit(state, calls)
  return [...found.values()]
}

/** What is answered where nobody is told what there was to do. */
export const anyAction = 'done'
const actions = [anyAction, 'created', 'mounted', 'unmounted', 'grown', 'removed', 'unchanged']
const isAction = (answer: string) => actions.includes(answer)

/** The same text for states that are the same. */
export function key(state: State): string {
  if (!state) return 'none'
  const mounts = pods.map((pod) => `${pod}:${state.mounts[pod] ?? ''}`)
  return `${state.size} ${mounts} ${state.text ?? ''}`
}

/** A request as a person would say it. */
export function describe(request: Request): string {
  const { name } = request
  switch (request.kind) {
    case 'create':
      return `create ${name} of size ${request.size}`
    case 'mount': {
      const how = request.readOnly ? ' read-only' : ''
      return `mount ${name} on ${request.pod}${how}${request.create === undefined ? '' : `, made of size ${request.create}`}`
    }
    case 'unmount':
      return `unmount ${name} from ${request.pod}`
    case 'grow':
      return `grow ${name} to size ${request.size}`
    case 'remove':
      return `remove ${name}`
  }
}
