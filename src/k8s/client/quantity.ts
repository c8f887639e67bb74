import { VolumeError } from '../../volume/errors.ts'

const units: Record<string, { base: bigint; power: number }> = {
  n: { base: 10n, power: -9 },
  u: { base: 10n, power: -6 },
  m: { base: 10n, power: -3 },
  '': { base: 10n, power: 0 },
  k: { base: 10n, power: 3 },
  M: { base: 10n, power: 6 },
  G: { base: 10n, power: 9 },
  T: { base: 10n, power: 12 },
  P: { base: 10n, power: 15 },
  E: { base: 10n, power: 18 },
  Ki: { base: 2n, power: 10 },
  Mi: { base: 2n, power: 20 },
  Gi: { base: 2n, power: 30 },
  Ti: { base: 2n, power: 40 },
  Pi: { base: 2n, power: 50 },
  Ei: { base: 2n, power: 60 },
}

/**
 * Whole bytes of a Kubernetes quantity, rounded up: `1536Mi`, `0.5Gi`, `1e9`, `107374182400m`
 * (apimachinery, pkg/api/resource/quantity.go). Throws `invalid`, naming `field`.
 */
export function parseQuantity(text: unknown, field: string): bigint {
  const match =
    typeof text === 'string'
      ? /^([0-9]{1,30})?(?:\.([0-9]{0,30}))?(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?$/.exec(text)
      : null
  const [, whole = '', fraction = '', unit = '', exponent = '0'] = match ?? []
  if (!match || whole + fraction === '')
    throw new VolumeError(
      'invalid',
      `Cannot read ${field} as it must be a quantity such as 10Gi: it is ${JSON.stringify(text) ?? 'missing'}.`,
    )
  const { base, power } = units[unit] as { base: bigint; power: number }
  const places = BigInt(fraction.length)
  let above = BigInt(whole + fraction)
  let below = 10n ** places
  const scale = (b: bigint, p: number) => {
    if (p >= 0) above *= b ** BigInt(p)
    else below *= b ** BigInt(-p)
  }
  scale(base, power)
  scale(10n, Number(exponent))
  return (above + below - 1n) / below
}

/** Bytes as a quantity in the largest binary unit that holds them in a whole number: `10Gi`, `1536Mi`, `1000`. */
export function formatQuantity(bytes: bigint): string {
  const binary = Object.entries(units).filter(([, { base }]) => base === 2n)
  const fitting = binary.findLast(([, { power }]) => bytes > 0n && bytes % 2n ** BigInt(power) === 0n)
  return fitting ? `${bytes / 2n ** BigInt(fitting[1].power)}${fitting[0]}` : String(bytes)
}
