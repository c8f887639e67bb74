import type { CopyState } from './reflector.ts'

/** Twice as long as the longest that a watch may say nothing (api.ts), and then some. */
const deadMs = 600_000

/** Why what is followed is not there to go by yet, if so. */
export function findUnsynced(copies: readonly CopyState[]): string | undefined {
  const missing = copies.filter(({ isSynced }) => !isSynced).map(({ path }) => path)
  return missing.length > 0 ? `not listed yet: ${missing.join(', ')}` : undefined
}

/** Why only a new start would help, if so: one that follows notices by itself when the API server is away. */
export function findDead(copies: readonly CopyState[]): string | undefined {
  const dead = copies.find(({ silentMs }) => silentMs > deadMs)
  return (
    dead &&
    `nothing was received from the watch of ${dead.path} for ${Math.round(dead.silentMs / 1000)} s, not even a failure`
  )
}
