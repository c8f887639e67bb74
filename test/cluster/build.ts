/** Builds what the tests need of Go programs: Kubernetes, as one, and Helm; run as a script, it says where Kubernetes is. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheFolder } from '../../image/cache.ts'
import { run } from '../../src/run.ts'
import { go, makeModule } from '../kubernetes/go.ts'
import { rewriteForOlder } from '../kubernetes/older.ts'
import { defaultVersion, kubernetes } from '../kubernetes/version.ts'

const moduleDir = join(import.meta.dirname, 'control-plane')
const version = 'k8s.io/component-base/version'
/** Without a version, clients that parse it panic. */
export const ldflags = `-s -w -X ${version}.gitVersion=${kubernetes.version} -X ${version}.gitMajor=1 -X ${version}.gitMinor=${kubernetes.minor}`
/** Of all that is built of Kubernetes, so that Go's own cache serves all. */
export const buildFlags = ['-trimpath', '-buildvcs=false', '-ldflags', ldflags]

/**
 * Gives the path of the program that test/cluster/control-plane makes, and builds it when it is not in the cache
 * folder. Throws when there is no Go, or one that is too old.
 */
export async function ensureControlPlane(): Promise<string> {
  const isSource = (file: string) => file.endsWith('.go') || file === 'go.mod' || file === 'go.sum'
  const files = await readSources(moduleDir, (await readdir(moduleDir)).filter(isSource).sort())
  const isDefault = kubernetes.version === defaultVersion
  // Those of another version are made.
  const sources = isDefault ? files : rewriteForOlder(withoutModule(files), kubernetes.minor)
  return await ensureBuilt(`control-plane-${hashSources(sources)}`, 'control-plane', async (output) => {
    process.stderr.write(
      `Building Kubernetes ${kubernetes.version} for the tests: 10 to 17 minutes the first time ...\n`,
    )
    const folder = isDefault ? moduleDir : `${output}.module`
    try {
      if (!isDefault) await makeModule(folder, 'control-plane', sources)
      const changeable = isDefault ? [] : ['-mod=mod']
      await go(folder, ['build', ...changeable, ...buildFlags, '-o', output, '.'])
    } finally {
      if (!isDefault) await rm(folder, { recursive: true, force: true })
    }
  })
}

const helmVersion = 'v4.3.1'

/** Gives the path of Helm, built from its Go module. Throws when there is no Go, or one that is too old. */
export async function ensureHelm(): Promise<string> {
  return await ensureInstalled('helm', { module: 'helm.sh/helm/v4', version: helmVersion, package: 'cmd/helm' })
}

/** Gives the path of a program of a Go module. Throws when there is no Go, or one that is too old. */
export async function ensureInstalled(
  name: string,
  { module, version, package: folder = '' }: { module: string; version: string; package?: string },
): Promise<string> {
  return await ensureBuilt(`${name}-${version}`, name, async (output) => {
    process.stderr.write(`Building ${name} ${version}: 2 to 4 minutes the first time ...\n`)
    const bin = `${output}.bin`
    try {
      const args = ['install', '-trimpath', '-ldflags', '-s -w', `${join(module, folder)}@${version}`]
      await go(moduleDir, args, { GOBIN: bin })
      await rename(join(bin, name), output)
    } finally {
      await rm(bin, { recursive: true, force: true })
    }
  })
}

/** The program, or the folder, in a folder of the cache folder; `build` makes it when it is not there. */
export async function ensureBuilt(
  name: string,
  file: string,
  build: (output: string) => Promise<void>,
): Promise<string> {
  const folder = join(cacheFolder, name)
  const program = join(folder, file)
  if (existsSync(program)) return program
  await checkGo()
  await mkdir(folder, { recursive: true })
  // Another build may be under way: the one that ends last stays, and they are the same.
  const unfinished = `${program}.${process.pid}`
  try {
    await build(unfinished)
    await rename(unfinished, program)
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  return program
}

/** Files of a folder, by their names. */
export async function readSources(folder: string, files: readonly string[]): Promise<Map<string, string>> {
  const texts = files.map(async (file) => [file, await readFile(join(folder, file), 'utf8')] as const)
  return new Map(await Promise.all(texts))
}

const withoutModule = (sources: ReadonlyMap<string, string>) =>
  new Map([...sources].filter(([file]) => file.endsWith('.go')))

/** Tells one state of the sources from another. */
export function hashSources(sources: ReadonlyMap<string, string>): string {
  const hash = createHash('sha256').update(`${process.arch}\n${ldflags}\n`)
  for (const [file, text] of sources) hash.update(`${file} ${Buffer.byteLength(text)}\n`).update(text)
  return hash.digest('hex').slice(0, 16)
}

/** Throws unless there is a Go that can build the module, or fetch the one that can. */
async function checkGo(): Promise<void> {
  const { exitCode, stderr } = await run(join(import.meta.dirname, '../setup.sh'), ['go'], { accept: [1] })
  if (exitCode !== 0) throw new Error(stderr.trim())
}

if (import.meta.main) process.stdout.write(`${await ensureControlPlane()}\n`)
