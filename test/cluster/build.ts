/** Builds what the tests need of Go programs: Kubernetes, as one, and Helm; run as a script, it says where Kubernetes is. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { run } from '../../src/run.ts'

const moduleDir = join(import.meta.dirname, 'control-plane')
const version = 'k8s.io/component-base/version'
/** Without a version, clients that parse it panic. */
const ldflags = `-s -w -X ${version}.gitVersion=v1.37.2 -X ${version}.gitMajor=1 -X ${version}.gitMinor=37`

/**
 * Gives the path of the program that test/cluster/control-plane makes, and builds it when it is not in the cache
 * folder. Throws when there is no Go, or one that is too old.
 */
export async function ensureControlPlane(): Promise<string> {
  return await ensureBuilt(`control-plane-${await hashSources()}`, 'control-plane', async (output) => {
    process.stderr.write('Building Kubernetes for the tests: 10 to 17 minutes the first time ...\n')
    await go(['build', '-trimpath', '-buildvcs=false', '-ldflags', ldflags, '-o', output, '.'])
  })
}

const helmVersion = 'v4.3.1'

/** Gives the path of Helm, built from its Go module. Throws when there is no Go, or one that is too old. */
export async function ensureHelm(): Promise<string> {
  return await ensureBuilt(`helm-${helmVersion}`, 'helm', async (output) => {
    process.stderr.write('Building Helm for the tests: 2 to 4 minutes the first time ...\n')
    const folder = `${output}.bin`
    try {
      await go(['install', '-trimpath', '-ldflags', '-s -w', `helm.sh/helm/v4/cmd/helm@${helmVersion}`], {
        GOBIN: folder,
      })
      await rename(join(folder, 'helm'), output)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
}

/** The program in a folder of the cache folder; `build` makes it when it is not there. */
async function ensureBuilt(name: string, file: string, build: (output: string) => Promise<void>): Promise<string> {
  const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'elastic-local', name)
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
    await rm(unfinished, { force: true })
  }
  return program
}

/** Tells one state of the sources from another. */
async function hashSources(): Promise<string> {
  const isSource = (file: string) => file.endsWith('.go') || file === 'go.mod' || file === 'go.sum'
  const files = (await readdir(moduleDir)).filter(isSource).sort()
  const hash = createHash('sha256').update(`${process.arch}\n${ldflags}\n`)
  for (const file of files) {
    const text = await readFile(join(moduleDir, file))
    hash.update(`${file} ${text.length}\n`).update(text)
  }
  return hash.digest('hex').slice(0, 16)
}

/** Throws unless there is a Go that can build the module, or fetch the one that can. */
async function checkGo(): Promise<void> {
  const { exitCode, stderr } = await run(join(import.meta.dirname, '../setup.sh'), ['go'], { accept: [1] })
  if (exitCode !== 0) throw new Error(stderr.trim())
}

function go(args: readonly string[], more: Readonly<Record<string, string>> = {}) {
  const settings = { CGO_ENABLED: '0', GOWORK: 'off', PATH: `${process.env.PATH}:/usr/local/go/bin`, ...more }
  const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  return run('env', ['-C', moduleDir, ...words, 'go', ...args])
}

if (import.meta.main) process.stdout.write(`${await ensureControlPlane()}\n`)
