/** What the image is made of, with the licences. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findBundledPackages, findNodePackage } from '../build.mjs'
import { findLicences, type Package } from './debian.ts'

/** Something with a licence and a version. */
export interface Part {
  kind: 'deb' | 'npm' | 'node'
  name: string
  version: string
  /** Of the archive that it came in, in hex. */
  hash: { algorithm: 'SHA-256' | 'SHA-512'; value: string }
  /** Names of licences, or an SPDX expression. */
  licences: string[]
  /** The licences' texts, as the part has them. */
  text: string
}

/** Packages whose licence stands at the head of a file of theirs, and nowhere else. */
const noticeAtHeadOf: Readonly<Record<string, string>> = { '@bufbuild/protobuf': 'dist/esm/wire/varint.js' }

/** The comment that a file begins with. */
function readHead(source: string): string {
  const lines = source.split('\n')
  const end = lines.findIndex((line) => !line.startsWith('//'))
  return lines
    .slice(0, end)
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join('\n')
}

/** What is bundled in the executable: Node, and npm packages. */
export async function findBundledParts(arch: string): Promise<Part[]> {
  const lock = JSON.parse(await readFile(join(import.meta.dirname, '../package-lock.json'), 'utf8')).packages
  const root = join(import.meta.dirname, '..')
  const read = async (kind: Part['kind'], folder: string, key: string): Promise<Part> => {
    const { name, version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
    const value = Buffer.from(lock[key].integrity.replace('sha512-', ''), 'base64').toString('hex')
    const files = (await readdir(folder)).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort()
    const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')))
    const head = noticeAtHeadOf[name]
    if (files.length === 0 && head) texts.push(readHead(await readFile(join(folder, head), 'utf8')))
    return { kind, name, version, hash: { algorithm: 'SHA-512', value }, licences: [license], text: texts.join('\n') }
  }
  const node = await read('node', findNodePackage(arch), `node_modules/node-linux-${arch}`)
  const packages = (await findBundledPackages()).map((folder) => read('npm', folder, folder.slice(root.length + 1)))
  return [{ ...node, name: 'node' }, ...(await Promise.all(packages))]
}

/** A package of Debian as a part; its licences are what its copyright file names. */
export async function readDebianPart({ name, version, sha256 }: Package, root: string): Promise<Part> {
  const text = await readFile(join(root, 'usr/share/doc', name, 'copyright'), 'utf8')
  const licences = findLicences(text)
  return { kind: 'deb', name, version, hash: { algorithm: 'SHA-256', value: sha256 }, licences, text }
}

/** All texts of licences in one. */
export function joinLicences(parts: readonly Part[]): string {
  const head = 'elastic-local is under the Apache License 2.0, as are some of its parts without a text of their own.\n'
  const sections = parts.map(
    ({ name, version, licences, text }) => `==== ${name} ${version} (${licences.join(', ')}) ====\n\n${text.trim()}\n`,
  )
  return [head, ...sections].join('\n')
}
