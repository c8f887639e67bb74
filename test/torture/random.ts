/** Numbers that look like chance, the same for the same seed. */
export interface Random {
  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number
  /** True in that share of the calls. */
  chance(share: number): boolean
}

/** Marsaglia's xorshift of 32 bits ("Xorshift RNGs", 2003). */
export function buildRandom(seed: number): Random {
  // A state of 0 stays 0, and seeds close together would begin alike.
  let state = Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b || 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 8; i++) next()
  return { below: (limit) => Math.floor(next() * limit), chance: (share) => next() < share }
}

/** A seed of the environment's `SEED`, or any. */
export function pickSeed(): number {
  const { SEED } = process.env
  if (!SEED) return Math.floor(Math.random() * 2 ** 31)
  if (!/^\d{1,10}$/.test(SEED)) throw new Error(`Cannot use SEED as it must be a whole number: it is ${SEED}`)
  return Number(SEED)
}
