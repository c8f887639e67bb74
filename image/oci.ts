/** Writes images as the OCI has them (image-spec): the same bytes for the same files, whenever and wherever. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { run } from '../src/run.ts'
import type { Architecture } from './contents.ts'

const mediaType = (kind: string) => `application/vnd.oci.image.${kind}`

/** The contents of a folder, in a form of which there is one only. */
export interface Layer {
  /** What made it, for people. */
  createdBy: string
  /** Of the archive. */
  diffId: string
  compressed: Buffer
}

/** The image for one architecture. */
export interface Variant {
  architecture: Architecture
  layers: readonly Layer[]
}

export interface ImageOptions {
  /** `repository:tag`. */
  name: string
  created: Date
  entrypoint: readonly string[]
  /** Of the image and, as labels, of what runs. */
  annotations: Readonly<Record<string, string>>
  variants: readonly Variant[]
}

interface Descriptor {
  mediaType: string
  digest: string
  size: number
}

/** Makes a layer of what is in a folder, all of it root's. */
export async function makeLayer(folder: string, createdBy: string): Promise<Layer> {
  const archive = `${folder}.tar`
  await writeTar(folder, archive)
  const bytes = await readFile(archive)
  await rm(archive)
  return { createdBy, diffId: digestOf(bytes), compressed: await promisify(gzip)(bytes, { level: 6 }) }
}

/** Writes an image for all its architectures as one archive (an OCI layout in a tar); gives the image's digest. */
export async function writeImage(file: string, { name, created, ...image }: ImageOptions): Promise<string> {
  const layout = `${file}.layout`
  await rm(layout, { recursive: true, force: true })
  await mkdir(join(layout, 'blobs/sha256'), { recursive: true })
  const store = async (kind: string, data: Buffer | object): Promise<Descriptor> => {
    const bytes = Buffer.isBuffer(data) ? data : Buffer.from(JSON.stringify(data))
    const digest = digestOf(bytes)
    await writeFile(join(layout, 'blobs', digest.replace(':', '/')), bytes)
    return { mediaType: mediaType(kind), digest, size: bytes.length }
  }
  const { entrypoint, annotations } = image
  const date = created.toISOString()
  const storeVariant = async ({ architecture, layers }: Variant) => {
    const config = await store('config.v1+json', {
      created: date,
      architecture,
      os: 'linux',
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Entrypoint: entrypoint,
        Labels: annotations,
      },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map(({ createdBy }) => ({ created: date, created_by: createdBy })),
    })
    const stored = []
    for (const { compressed } of layers) stored.push(await store('layer.v1.tar+gzip', compressed))
    const manifest = { schemaVersion: 2, mediaType: mediaType('manifest.v1+json'), config, layers: stored, annotations }
    return { ...(await store('manifest.v1+json', manifest)), platform: { architecture, os: 'linux' } }
  }
  const manifests = []
  for (const variant of image.variants) manifests.push(await storeVariant(variant))
  const index = { schemaVersion: 2, mediaType: mediaType('index.v1+json'), manifests, annotations }
  const descriptor = await store('index.v1+json', index)
  const names = {
    'io.containerd.image.name': `docker.io/library/${name}`,
    'org.opencontainers.image.ref.name': name.split(':')[1],
  }
  const top = { ...index, annotations: undefined, manifests: [{ ...descriptor, annotations: names }] }
  await writeFile(join(layout, 'index.json'), JSON.stringify(top))
  await writeFile(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  await writeTar(layout, `${file}.unfinished`)
  await rename(`${file}.unfinished`, file)
  await rm(layout, { recursive: true })
  return descriptor.digest
}

async function writeTar(folder: string, file: string): Promise<void> {
  const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu']
  // Only root runs the programs.
  const modes = '--mode=ug-s'
  await run('tar', [...same, modes, '--create', '--file', file, '--directory', folder, '.'])
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
