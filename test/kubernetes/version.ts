/** Which Kubernetes the tests run on: that of `KUBERNETES`, such as `v1.34.4`, or else the one that they are written for. */
export const defaultVersion = 'v1.37.2'

export interface Kubernetes {
  version: string
  minor: number
  patch: number
}

/** Throws when it is no released version of Kubernetes 1. */
export function parseVersion(version: string): Kubernetes {
  const [, minor, patch] = /^v1\.(\d+)\.(\d+)$/.exec(version) ?? []
  if (!minor || !patch)
    throw new Error(`Cannot test as KUBERNETES must be a version such as ${defaultVersion}: it is "${version}"`)
  return { version, minor: Number(minor), patch: Number(patch) }
}

export const kubernetes = parseVersion(process.env.KUBERNETES || defaultVersion)

/** What a test needs that came to Kubernetes, or was first on by itself, in a minor version of it. */
export interface Need {
  since: number
  what: string
}

/** Feature gate RecoverVolumeExpansionFailure: the claim says how its growth goes, and can be lowered again. */
export const growthRecovery: Need = { since: 32, what: 'recovery from growth that failed' }

/**
 * Tells a suite's `test` from its `test.skip`, by what a test needs of Kubernetes; that it is skipped, and why, is said,
 * and test/run.ts counts it.
 */
export function needing<T extends { skip: (name: string) => void }>(
  test: T,
  { since, what }: Need,
): T | ((name: string, work: unknown) => void) {
  if (kubernetes.minor >= since) return test
  return (name) => {
    process.stdout.write(`skipped on ${kubernetes.version}, as ${what} came with v1.${since}: ${name}\n`)
    test.skip(name)
  }
}
