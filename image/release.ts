/**
 * Puts together what a release consists of, in dist/release:
 *
 *   node image/release.ts      the image, executables, the chart, SBOMs and licences, checksums, and the notes
 */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findCommitDate } from '../build.mjs'
import { run } from '../src/run.ts'
import { buildImage, gather, version } from './build.ts'
import { architectures, type NodeArch } from './contents.ts'

const root = join(import.meta.dirname, '..')

/** The section of a changelog that is about one version, without its heading. Throws where there is none. */
export function findNotes(changelog: string, version: string): string {
  const sections = changelog.split(/^## /m).slice(1)
  const section = sections.find((text) => text.split(/\s/, 1)[0] === version)
  if (section === undefined)
    throw new Error(`Cannot release ${version} as CHANGELOG.md has no section of that name: rename "Unreleased" first`)
  return `${section.slice(section.indexOf('\n') + 1).trim()}\n`
}

/** The chart as Helm packs it, the same for the same sources. */
async function packChart(file: string): Promise<void> {
  // Of deploy.yaml and its like the chart has links.
  const same = ['--dereference', '--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mode=u=rwX,go=rX']
  const mtime = `--mtime=${findCommitDate().toISOString()}`
  await run('tar', ['--create', '--gzip', ...same, mtime, '--file', file, '-C', join(root, 'charts'), 'elastic-local'])
}

async function writeChecksums(folder: string): Promise<void> {
  const names = (await readdir(folder)).sort()
  const lines = names.map(async (name) => {
    const sum = createHash('sha256').update(await readFile(join(folder, name)))
    return `${sum.digest('hex')}  ${name}\n`
  })
  await writeFile(join(folder, 'SHA256SUMS'), (await Promise.all(lines)).join(''))
}

if (import.meta.main) {
  const log = (text: string) => void process.stdout.write(`${text}\n`)
  const notes = findNotes(await readFile(join(root, 'CHANGELOG.md'), 'utf8'), version)
  const folder = join(root, 'dist/release')
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const materials = []
  for (const arch of Object.keys(architectures) as NodeArch[]) materials.push(await gather(arch, true, log))
  const name = `elastic-local-${version}`
  await buildImage(join(folder, `${name}-image.oci.tar`), materials, log)
  for (const { arch, executable } of materials) {
    const file = join(folder, `${name}-linux-${architectures[arch]}`)
    await copyFile(executable, file)
    await chmod(file, 0o755)
  }
  await packChart(join(folder, `${name}.tgz`))
  await copyFile(join(root, 'deploy.yaml'), join(folder, 'deploy.yaml'))
  await writeChecksums(folder)
  await writeFile(join(folder, 'NOTES.md'), notes)
  log(`Made ${folder}:\n${(await readdir(folder)).map((file) => `  ${file}\n`).join('')}`)
}
