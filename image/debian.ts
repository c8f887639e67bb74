/** Gets packages from Debian for any architecture, without installing them. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../src/run.ts'
import { type Architecture, release } from './contents.ts'

/** A package, unpacked. */
export interface Package {
  name: string
  version: string
  /** What dpkg would know of it (deb-control(5)). */
  control: string
  /** Of its archive. */
  sha256: string
  /** Where its files are. */
  folder: string
}

/** The lines of sources.list(5) by which this machine gets the packages of a release of Debian, whatever else it gets. */
export async function findSources(name: string): Promise<string> {
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)'
  const args = ['indextargets', '--no-release-info', '--format', format, 'Created-By: Packages']
  const targets = (await run('apt-get', args)).stdout.split('\n')
  const suites = ['', '-updates', '-security'].map((suffix) => `${name}${suffix}`)
  const isWanted = (target: string) => suites.some((suite) => target.endsWith(` ${suite} main`))
  const lines = [...new Set(targets.filter(isWanted))].map((target) => `deb ${target}\n`)
  if (lines.length === 0)
    throw new Error(`Cannot create an image of Debian ${name} as apt has no sources for it on this machine`)
  return lines.join('')
}

/**
 * Downloads packages and all they depend on into `folder`, where they stay for the next time; gives the archives.
 * `refresh` asks for new versions; without it, those that are there are taken.
 */
export async function download(
  names: readonly string[],
  { architecture, folder, refresh }: { architecture: Architecture; folder: string; refresh: boolean },
): Promise<string[]> {
  const sources = await findSources(release)
  // Another release, or another mirror, has lists of its own.
  const place = join(folder, `${architecture}-${createHash('sha256').update(sources).digest('hex').slice(0, 16)}`)
  const [lists, archives] = [join(place, 'lists'), join(place, 'cache/archives')]
  const [sourceList, status] = [join(place, 'sources.list'), join(place, 'status')]
  for (const part of [lists, archives]) await mkdir(join(part, 'partial'), { recursive: true })
  await writeFile(sourceList, sources)
  // Nothing is installed.
  await writeFile(status, '')
  const settings = {
    'APT::Architecture': architecture,
    'APT::Architectures::': architecture,
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': '',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
    'Dir::Cache': join(place, 'cache'),
    'Dir::Etc::SourceList': sourceList,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State': place,
    'Dir::State::status': status,
  }
  const options = ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])]
  const stamp = join(place, 'complete')
  if (refresh || !existsSync(stamp)) await run('apt-get', [...options, 'update', '--error-on=any'])
  const install = [...options, 'install', '--yes', '--no-remove', ...names]
  await run('apt-get', [...install, '--download-only'])
  const { stdout } = await run('apt-get', [...install, '--simulate'])
  const files = [...stdout.matchAll(/^Inst (\S+) \((\S+) .*\[(\S+)\]\)/gm)].map(
    ([, name, version = '', arch]) => `${name?.split(':')[0]}_${version.replaceAll(':', '%3a')}_${arch}.deb`,
  )
  // Those that newer ones have taken the place of.
  const old = (await readdir(archives)).filter((file) => file.endsWith('.deb') && !files.includes(file))
  for (const file of old) await rm(join(archives, file))
  await writeFile(stamp, '')
  return files.map((file) => join(archives, file)).sort()
}

/** Unpacks an archive of a package into a folder of its name below `folder`. */
export async function unpack(archive: string, folder: string): Promise<Package> {
  const { stdout: control } = await run('dpkg-deb', ['--field', archive])
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(control)?.[1] ?? ''
  const [name, version] = [field('Package'), field('Version')]
  const target = join(folder, name)
  await mkdir(target, { recursive: true })
  await run('dpkg-deb', ['--extract', archive, target])
  const sha256 = createHash('sha256')
    .update(await readFile(archive))
    .digest('hex')
  return { name, version, control, sha256, folder: target }
}

/** What dpkg would have in its status file of packages that are installed. */
export function buildStatus(packages: readonly Package[]): string {
  return packages
    .map(({ control }) => control.trimEnd().replace(/^Package: .*$/m, '$&\nStatus: install ok installed'))
    .map((stanza) => `${stanza}\n`)
    .join('\n')
}

/** The licences that a copyright file names, without the texts; empty where it names none in a way that can be read. */
export function findLicences(copyright: string): string[] {
  const named = [...copyright.matchAll(/^License: *(\S.*)$/gm)].map((match) => match[1]?.trim() ?? '')
  const linked = [...copyright.matchAll(/\/usr\/share\/common-licenses\/([\w.+-]*\w)/g)].map((match) => match[1] ?? '')
  return [...new Set(named.length > 0 ? named : linked)].sort()
}
