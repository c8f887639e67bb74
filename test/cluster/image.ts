/** Builds the container images of the tests, without a Docker engine, from Debian's packages. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { build } from '../../build.mjs'
import { run } from '../../src/run.ts'

const root = join(import.meta.dirname, '../..')
const dockerfile = join(root, 'config/Dockerfile')
const busyboxDockerfile = join(import.meta.dirname, 'busybox.Dockerfile')
/** As in Debian's own slim images. */
const leftOut = ['man', 'doc', 'info', 'locale', 'lintian'].map((name) => `path-exclude=/usr/share/${name}/*`)

/** A container image in a file. */
export interface Image {
  /** What a pod says. */
  name: string
  /** An archive for `ctr images import`. */
  archive: string
}

/**
 * Gives the image of `config/Dockerfile` with the executable of the sources as they are now. What it is based on is
 * made once; a new executable costs one layer. Root only. Throws when apt has no sources for the image's Debian.
 */
export async function ensureImage(name = 'elastic-local:test'): Promise<Image> {
  const executable = await build({ log: () => {} })
  return await inStore(async (store) => {
    await store.ensureBase(await readFile(dockerfile, 'utf8'))
    const id = await store.build(name, dockerfile, dirname(executable))
    return await store.ensureArchive(name, id)
  })
}

/** Gives an image with a static busybox, which is also a sandbox image: it sleeps unless a pod has a command. */
export async function ensureBusyboxImage(name = 'busybox:test'): Promise<Image> {
  const recipe = await readFile(busyboxDockerfile, 'utf8')
  return await inStore((store) =>
    store.ensureArchive(name, hash([recipe]), async () => {
      await store.ensureBase(recipe)
      await store.build(name, busyboxDockerfile, import.meta.dirname)
    }),
  )
}

/** The images on this machine that tests made. One process has it at a time. */
class Store {
  readonly #folder: string
  readonly #runFolder: string

  constructor(folder: string) {
    this.#folder = folder
    this.#runFolder = join(folder, 'run')
  }

  /** Makes what a recipe's `FROM debian:…` means, from the machine's own sources of packages. */
  async ensureBase(recipe: string): Promise<void> {
    const [, name, release] = /^FROM (debian:(\w+)-slim)\b/m.exec(recipe) ?? []
    if (!name || !release) throw new Error('Cannot make a test image as it must be based on debian:<release>-slim')
    const sources = await findSources(release)
    const options = ['--aptopt=Acquire::Retries "3"', ...leftOut.map((option) => `--dpkgopt=${option}`)]
    const made = `base-${hash([release, sources, ...options])}`
    const { exitCode } = await this.#buildah(['inspect', '--type', 'image', made], [125])
    if (exitCode !== 0) {
      process.stderr.write('Making the base of the test images: about half a minute the first time ...\n')
      const file = (entry: string) => join(this.#runFolder, entry)
      await writeFile(file('sources.list'), sources)
      const words = [...options, release, file('base.tar'), file('sources.list')]
      await runAlone('mmdebstrap', ['--quiet', '--variant=apt', ...words])
      await writeFile(file('Dockerfile'), 'FROM scratch\nADD base.tar /\n')
      await this.#buildah(['build', '--tag', made, '--file', file('Dockerfile'), this.#runFolder])
    }
    await this.#buildah(['tag', made, name])
  }

  /** Builds an image, as far as it is not built; gives its ID. */
  async build(name: string, file: string, context: string): Promise<string> {
    const options = ['--isolation=chroot', '--network=host', '--pull-never', '--layers']
    const { stdout } = await this.#buildah(['build', '--quiet', ...options, '--tag', name, '--file', file, context])
    return stdout.trim().split('\n').slice(-1).join()
  }

  /** Makes an archive of the image that `make` makes, which stays until there is one of another key. */
  async ensureArchive(name: string, key: string, make?: () => Promise<void>): Promise<Image> {
    const prefix = `${name.replace(':', '-')}.`
    const archive = join(this.#folder, `${prefix}${key.slice(0, 16)}.tar`)
    if (existsSync(archive)) return { name, archive }
    await make?.()
    // The images of former executables, and their archives.
    await this.#buildah(['rmi', '--prune'])
    const old = (await readdir(this.#folder)).filter((entry) => entry.startsWith(prefix))
    await Promise.all(old.map((entry) => rm(join(this.#folder, entry))))
    const unfinished = join(this.#folder, `${prefix}unfinished`)
    const target = `docker-archive:${unfinished}:${name}`
    await this.#buildah(['push', '--quiet', '--disable-compression', name, target])
    await rename(unfinished, archive)
    return { name, archive }
  }

  /** Takes away what a build left that was killed. */
  async tidy(): Promise<void> {
    await rm(this.#runFolder, { recursive: true, force: true })
    await mkdir(this.#runFolder)
    await this.#buildah(['rm', '--all'])
  }

  #buildah(args: readonly string[], accept: readonly number[] = []) {
    const folders = ['--root', join(this.#folder, 'storage'), '--runroot', join(this.#runFolder, 'run')]
    return runAlone('buildah', [...folders, '--storage-driver', 'overlay', ...args], accept)
  }
}

/** Runs a program that mounts: no mount of it stays, and no process of it outlives this one. */
function runAlone(file: string, args: readonly string[], accept: readonly number[] = []) {
  const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc']
  return run('setpriv', ['--pdeathsig', 'KILL', 'unshare', ...namespaces, '--', file, ...args], { accept })
}

async function inStore<T>(work: (store: Store) => Promise<T>): Promise<T> {
  const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'elastic-local/images')
  await mkdir(folder, { recursive: true })
  const unlock = await lock(join(folder, 'lock'))
  try {
    const store = new Store(folder)
    await store.tidy()
    return await work(store)
  } finally {
    await unlock()
  }
}

/** Waits for a lock that lasts until it is given back, or this process ends. */
async function lock(file: string): Promise<() => Promise<void>> {
  const child = spawn('flock', ['--exclusive', file, 'sh', '-c', 'echo locked; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  const locked = once(child.stdout, 'data').then(() => true)
  if (!(await Promise.race([locked, closed.then(() => false)]))) throw new Error(`Cannot lock ${file}`)
  return async () => {
    child.stdin.end()
    await closed
  }
}

/** The lines of sources.list(5) by which this machine gets the packages of a release of Debian, whatever else it gets. */
async function findSources(release: string): Promise<string> {
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)'
  const args = ['indextargets', '--no-release-info', '--format', format, 'Created-By: Packages']
  const targets = (await run('apt-get', args)).stdout.split('\n')
  const suites = ['', '-updates', '-security'].map((suffix) => `${release}${suffix}`)
  const isWanted = (target: string) => suites.some((suite) => target.endsWith(` ${suite} main`))
  const lines = [...new Set(targets.filter(isWanted))].map((target) => `deb ${target}\n`)
  if (lines.length === 0)
    throw new Error(`Cannot make a test image of Debian ${release} as apt has no sources for it on this machine`)
  return lines.join('')
}

function hash(words: readonly string[]): string {
  return createHash('sha256').update(words.join('\n')).digest('hex').slice(0, 16)
}

if (import.meta.main)
  for (const { name, archive } of [await ensureBusyboxImage(), await ensureImage()])
    process.stdout.write(`${name} ${archive}\n`)
