/** Makes the root folder of the image: the tools, and the libraries they need. */
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { type Architecture, contents, ownFiles, ownFolders, ownLinks } from './contents.ts'
import { buildStatus, type Package } from './debian.ts'
import { parseLinkage } from './elf.ts'

const libraryFolders: Readonly<Record<Architecture, string>> = {
  amd64: '/usr/lib/x86_64-linux-gnu',
  arm64: '/usr/lib/aarch64-linux-gnu',
}

interface Entry {
  owner: Package
  /** Where it is now. */
  file: string
  /** Where a symbolic link leads. */
  target: string | undefined
}

/**
 * Writes into the folder `root` what the image has of the packages, with what `executable` needs; gives the packages
 * that something was taken of, by name.
 */
export async function makeRoot(
  packages: readonly Package[],
  { root, executable, architecture }: { root: string; executable: string; architecture: Architecture },
): Promise<Package[]> {
  const entries = await listFiles(packages)
  const chosen = await choose(entries, { executable, architecture })
  for (const [path, mode] of Object.entries(ownFolders)) {
    await mkdir(join(root, path), { recursive: true })
    await chmod(join(root, path), mode)
  }
  for (const path of [...chosen].sort()) {
    const { file, target } = entries.get(path) as Entry
    await mkdir(join(root, dirname(path)), { recursive: true })
    if (target === undefined) await copyFile(file, join(root, path))
    else await symlink(target, join(root, path))
  }
  const owners = new Set([...chosen].map((path) => entries.get(path)?.owner))
  const taken = packages.filter((entry) => owners.has(entry)).sort((a, b) => (a.name < b.name ? -1 : 1))
  const files = { ...ownFiles, '/var/lib/dpkg/status': buildStatus(taken) }
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  for (const [path, target] of Object.entries(ownLinks))
    if (existsSync(join(root, target))) await symlink(target, join(root, path))
  return taken
}

/** The files of all packages by their paths in the image. */
async function listFiles(packages: readonly Package[]): Promise<Map<string, Entry>> {
  const entries = new Map<string, Entry>()
  for (const owner of packages)
    for (const entry of await readdir(owner.folder, { recursive: true, withFileTypes: true })) {
      if (entry.isDirectory()) continue
      const file = join(entry.parentPath, entry.name)
      const target = entry.isSymbolicLink() ? await readlink(file) : undefined
      entries.set(merge(file.slice(owner.folder.length)), { owner, file, target })
    }
  return entries
}

/** The paths of what is wanted and of what that needs. Throws when there is no such file. */
async function choose(
  entries: ReadonlyMap<string, Entry>,
  { executable, architecture }: { executable: string; architecture: Architecture },
): Promise<Set<string>> {
  const chosen = new Set<string>()
  const links = [...entries].flatMap(([path, { target }]) => (target ? [{ path, leadsTo: follow(path, target) }] : []))
  const chooseNeeded = async (file: string) => {
    const { loader, needed } = parseLinkage(await readFile(file)) ?? { loader: undefined, needed: [] }
    if (loader) await add(loader)
    for (const name of needed) await add(`${libraryFolders[architecture]}/${name}`)
  }
  const add = async (wanted: string): Promise<void> => {
    const path = merge(wanted)
    if (chosen.has(path)) return
    const entry = entries.get(path)
    if (!entry) throw new Error(`Cannot create the image as ${path} must be in one of its packages`)
    chosen.add(path)
    await addCopyright(entry.owner.name)
    if (entry.target !== undefined) return await add(follow(path, entry.target))
    // The other names of a program.
    for (const link of links.filter(({ leadsTo }) => leadsTo === path && isProgram(path))) await add(link.path)
    await chooseNeeded(entry.file)
  }
  const addCopyright = async (name: string): Promise<void> => {
    const folder = `/usr/share/doc/${name}`
    const link = entries.get(folder)
    if (!link?.target) return await add(`${folder}/copyright`)
    chosen.add(folder)
    await add(`${follow(folder, link.target)}/copyright`)
  }
  for (const wanted of Object.values(contents).flat())
    for (const path of wanted.endsWith('/') ? [...entries.keys()].filter((key) => key.startsWith(wanted)) : [wanted])
      await add(path)
  await chooseNeeded(executable)
  return chosen
}

const isProgram = (path: string) => /^\/usr\/s?bin\//.test(path)

/** Where a path really is, in a Debian whose `/bin`, `/sbin` and `/lib` are links. */
function merge(path: string): string {
  return path.replace(/^\/(bin|sbin|lib|lib64)\//, '/usr/$1/')
}

function follow(path: string, target: string): string {
  return merge(normalize(target.startsWith('/') ? target : join(dirname(path), target)))
}
