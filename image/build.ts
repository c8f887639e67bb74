/**
 * Makes the image of elastic-local from Debian's packages and the executable, without a container engine:
 *
 *   node image/build.ts      dist/image/elastic-local.oci.tar for all architectures, with what is in it beside it
 */
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import prettyBytes from 'pretty-bytes'
import { build, findCommit, findCommitDate } from '../build.mjs'
import { cacheFolder } from './cache.ts'
import { type Architecture, architectures, contents, type NodeArch } from './contents.ts'
import { download, type Package, unpack } from './debian.ts'
import { withLock } from './lock.ts'
import { type Layer, makeLayer, writeImage } from './oci.ts'
import { findBundledParts, joinLicences, readDebianPart } from './parts.ts'
import { makeRoot } from './root.ts'
import { buildBom } from './sbom.ts'

const root = join(import.meta.dirname, '..')
export const { version, license } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))

/** As `deploy.yaml` has it. */
export const imageName = `elastic-local:${version}`

/** What an image is made of: the executable of the sources, and archives of packages. */
export interface Materials {
  arch: NodeArch
  executable: string
  archives: string[]
}

/** Gets together what an image is made of; `refresh` asks Debian for new versions of its packages. */
export async function gather(arch: NodeArch, refresh: boolean, log: (text: string) => void): Promise<Materials> {
  const executable = await build({ arch, log })
  const folder = join(cacheFolder, 'debian')
  const options = { architecture: architectures[arch], folder, refresh }
  await mkdir(folder, { recursive: true })
  const archives = await withLock(join(folder, 'lock'), () => download(Object.keys(contents), options))
  return { arch, executable, archives }
}

/**
 * Makes the image into the archive `file`, and what is in it into files beside it: its SBOM and its licences. Gives the
 * digest.
 */
export async function buildImage(
  file: string,
  materials: readonly Materials[],
  log: (text: string) => void,
): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'elastic-local-image-'))
  const umask = process.umask(0o022)
  try {
    const variants = await Promise.all(materials.map((entry) => buildVariant(join(work, entry.arch), entry)))
    for (const { architecture, bom, licences, layers } of variants) {
      const sizes = layers.map(({ createdBy, compressed }) => `${prettyBytes(compressed.length)} ${createdBy}`)
      log(`${architecture}, compressed: ${sizes.join(' + ')}`)
      await writeFile(file.replace(/(\.oci)?\.tar$/, `-${architecture}.cdx.json`), bom)
      await writeFile(file.replace(/(\.oci)?\.tar$/, `-${architecture}.licences.txt`), licences)
    }
    const created = findCommitDate()
    return await writeImage(file, {
      name: imageName,
      created,
      entrypoint: ['elastic-local'],
      annotations: {
        'org.opencontainers.image.title': 'elastic-local',
        'org.opencontainers.image.description': 'Local volumes for Kubernetes',
        'org.opencontainers.image.version': version,
        'org.opencontainers.image.revision': findCommit(),
        'org.opencontainers.image.created': created.toISOString(),
        'org.opencontainers.image.licenses': license,
      },
      variants,
    })
  } finally {
    process.umask(umask)
    await rm(work, { recursive: true, force: true })
  }
}

/** The image for one architecture, and what is in it. */
async function buildVariant(
  work: string,
  { arch, executable, archives }: Materials,
): Promise<{ architecture: Architecture; layers: Layer[]; bom: string; licences: string }> {
  const architecture = architectures[arch]
  const [tools, own] = [join(work, 'tools'), join(work, 'own')]
  const packages: Package[] = []
  for (const archive of archives) packages.push(await unpack(archive, join(work, 'packages')))
  const taken = await makeRoot(packages, { root: tools, executable, architecture })

  const bundled = await findBundledParts(arch)
  const parts = [...bundled, ...(await Promise.all(taken.map((entry) => readDebianPart(entry, tools))))]
  const bom = buildBom({ version, architecture, created: findCommitDate() }, parts)
  const [programs, docs] = [join(own, 'usr/local/bin'), join(own, 'usr/share/doc/elastic-local')]
  for (const folder of [programs, docs]) await mkdir(folder, { recursive: true })
  await copyFile(executable, join(programs, 'elastic-local'))
  await chmod(join(programs, 'elastic-local'), 0o755)
  await writeFile(join(docs, 'sbom.cdx.json'), bom)
  await writeFile(join(docs, 'copyright'), joinLicences(bundled))
  const layers = [await makeLayer(tools, 'tools'), await makeLayer(own, 'elastic-local')]
  return { architecture, layers, bom, licences: joinLicences(parts) }
}

if (import.meta.main) {
  const log = (text: string) => void process.stdout.write(`${text}\n`)
  const materials = []
  for (const arch of Object.keys(architectures) as NodeArch[]) materials.push(await gather(arch, true, log))
  const file = join(root, 'dist/image/elastic-local.oci.tar')
  await mkdir(join(root, 'dist/image'), { recursive: true })
  const digest = await buildImage(file, materials, log)
  log(`Made ${file} (${imageName}@${digest}).`)
}
