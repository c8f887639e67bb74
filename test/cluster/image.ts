/** The container images of the tests. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { findCommitDate } from '../../build.mjs'
import { buildImage, gather, imageName } from '../../image/build.ts'
import { cacheFolder } from '../../image/cache.ts'
import type { NodeArch } from '../../image/contents.ts'
import { findSources } from '../../image/debian.ts'
import { withLock } from '../../image/lock.ts'
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
 * Gives the image as `make image` makes it, for this machine's architecture, with the executable of the sources as they
 * are now. Throws when apt has no sources for the image's Debian.
 */
export async function ensureImage(): Promise<Image> {
  const materials = await gather(process.arch as NodeArch, false, () => {})
  const recipes = join(root, 'image')
  const files = [materials.executable, ...(await readdir(recipes)).map((file) => join(recipes, file))]
  const texts = await Promise.all(
    files.map(async (file) =>
      createHash('sha256')
        .update(await readFile(file))
        .digest(),
    ),
  )
  const key = hash([
    findCommitDate().toISOString(),
    ...materials.archives,
    ...texts.map((text) => text.toString('hex')),
  ])
  const images = join(cacheFolder, 'images')
  const folder = join(images, `elastic-local-${key}`)
  const archive = join(folder, 'elastic-local.oci.tar')
  await mkdir(images, { recursive: true })
  await withLock(join(images, 'lock'), async () => {
    if (existsSync(archive)) return
    // Those of former executables.
    const old = (await readdir(images)).filter((entry) => entry.startsWith('elastic-local-'))
    for (const entry of old) await rm(join(images, entry), { recursive: true })
    await mkdir(folder)
    await buildImage(archive, [materials], () => {})
  })
  return { name: imageName, archive }
}

/** What an engine makes of `config/Dockerfile`. */
export interface DockerfileImage {
  config: { Entrypoint: string[]; Labels: Record<string, string> }
  /** The versions of its packages, by name. */
  packages: Map<string, string>
  /** Which of these paths are files there. */
  have(paths: readonly string[]): Promise<string[]>
}

/**
 * Builds `config/Dockerfile` and looks into it. Its packages are as new as those that `gather()` gives afterwards. Root
 * only.
 */
export async function withDockerfileImage<T>(work: (image: DockerfileImage) => Promise<T>): Promise<T> {
  return await inStore(async (store) => {
    const context = await ensureDockerfileBase(store)
    await store.build('elastic-local:dockerfile', dockerfile, context)
    return await store.lookInto('elastic-local:dockerfile', work)
  })
}

/** Makes what `withDockerfileImage()` begins with, which takes long the first time. Root only. */
export async function prepareDockerfileImage(): Promise<void> {
  await inStore(ensureDockerfileBase)
}

/** Gives the folder of what the image is made of. */
async function ensureDockerfileBase(store: Store): Promise<string> {
  const recipe = await readFile(dockerfile, 'utf8')
  const findKey = async (refresh: boolean) => {
    const { archives, executable } = await gather(process.arch as NodeArch, refresh, () => {})
    return { key: archives.map((file) => basename(file)).join(), context: dirname(executable) }
  }
  const known = await findKey(false)
  const { key, context } = (await store.hasBase(recipe, known.key)) ? known : await findKey(true)
  await store.ensureBase(recipe, key)
  return context
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

  /** Whether `ensureBase()` has nothing to do. */
  async hasBase(recipe: string, key: string): Promise<boolean> {
    return await this.#has((await planBase(recipe, key)).made)
  }

  async #has(name: string): Promise<boolean> {
    const { exitCode } = await this.#buildah(['inspect', '--type', 'image', name], [125])
    return exitCode === 0
  }

  /** Makes what a recipe's `FROM debian:…` means, from the machine's own sources of packages, anew for another key. */
  async ensureBase(recipe: string, key = ''): Promise<void> {
    const { name, release, sources, options, made } = await planBase(recipe, key)
    if (!(await this.#has(made))) {
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

  /** Has `work` look into an image. */
  async lookInto<T>(name: string, work: (image: DockerfileImage) => Promise<T>): Promise<T> {
    const inspected = await this.#buildah(['inspect', '--type', 'image', name])
    const container = (await this.#buildah(['from', '--pull-never', name])).stdout.trim()
    const inside = async (...command: string[]) =>
      (await this.#buildah(['run', '--isolation=chroot', container, '--', ...command])).stdout
        .split('\n')
        .filter(Boolean)
    try {
      const versions = await inside('dpkg-query', '--show')
      return await work({
        config: JSON.parse(inspected.stdout).OCIv1.config,
        packages: new Map(versions.map((line) => line.replace(/:\w+\t/, '\t').split('\t') as [string, string])),
        have: (paths) => inside('sh', '-c', 'for file; do [ ! -f "$file" ] || echo "$file"; done', 'sh', ...paths),
      })
    } finally {
      await this.#buildah(['rm', container])
    }
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
  const folder = join(cacheFolder, 'images')
  await mkdir(folder, { recursive: true })
  return await withLock(join(folder, 'store.lock'), async () => {
    const store = new Store(folder)
    await store.tidy()
    return await work(store)
  })
}

/** How to make the base of a recipe, and what it is called then. */
async function planBase(recipe: string, key: string) {
  const [, name, release] = /^FROM (debian:(\w+)-slim)\b/m.exec(recipe) ?? []
  if (!name || !release) throw new Error('Cannot create a test image as it must be based on debian:<release>-slim')
  const sources = await findSources(release)
  const options = ['--aptopt=Acquire::Retries "3"', ...leftOut.map((option) => `--dpkgopt=${option}`)]
  return { name, release, sources, options, made: `base-${hash([release, sources, ...options, key])}` }
}

function hash(words: readonly string[]): string {
  return createHash('sha256').update(words.join('\n')).digest('hex').slice(0, 16)
}

if (import.meta.main)
  for (const { name, archive } of [await ensureBusyboxImage(), await ensureImage()])
    process.stdout.write(`${name} ${archive}\n`)
