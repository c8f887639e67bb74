/**
 * The kernel that guests boot: Debian's own, unpacked into the cache folder and never installed, with a small initrd
 * that finds the machine's files. Run as a script, it says where it is.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { cacheFolder } from '../../image/cache.ts'
import { withLock } from '../../image/lock.ts'
import { run } from '../../src/run.ts'

/** What the initrd needs to reach disks, the machine's files and the network; all else is loaded from `folder`. */
const firstModules = ['virtio_pci', 'virtio_blk', '9pnet_virtio', '9p', 'virtio_net']
/** Kinds of drivers that no guest has devices for: two thirds of the package. */
const kindsLeftOut = ['gpu', 'media', 'net/ethernet', 'net/wireless', 'iio', 'hid', 'usb', 'infiniband']
const leftOut = ['sound', ...kindsLeftOut.map((kind) => `drivers/${kind}`)].map(
  (folder) => `./lib/modules/*/kernel/${folder}`,
)

/** The initrd's only script: the machine's files become the root, read-only, and its init.sh goes on. */
const firstInit = `#!/bin/busybox sh
# Its parameters come from the kernel's command line, as in init.sh.
for module in /modules/*; do
  /bin/busybox insmod "$module" || echo "guest: cannot load $module"
done
/bin/busybox mkdir /machine
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose machine /machine
exec /bin/busybox switch_root /machine "$guest_tree/test/guest/init.sh"
`

/** Where a guest's kernel lies, in files of the machine. */
export interface GuestKernel {
  kernel: string
  initrd: string
  /** What modprobe(8) takes as its base folder. */
  folder: string
}

/**
 * Gives the kernel of guests, and fetches it by apt when it is not in the cache folder. Throws when apt does not have
 * one for this machine.
 */
export async function ensureGuestKernel(): Promise<GuestKernel> {
  if (process.arch !== 'x64') throw new Error(`Cannot boot a guest as the processor must be x64: it is ${process.arch}`)
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1] ?? 'unknown'
  const key = createHash('sha256')
    .update(['unpacked', firstInit, ...firstModules, ...leftOut].join('\n'))
    .digest('hex')
  const folder = join(cacheFolder, `guest-kernel-${release}-${key.slice(0, 12)}`)
  await mkdir(cacheFolder, { recursive: true })
  if (!existsSync(folder))
    await withLock(join(cacheFolder, 'guest-kernel.lock'), async () => {
      if (existsSync(folder)) return
      process.stderr.write('Fetching the kernel of the test guests: 70 MB the first time ...\n')
      const unfinished = `${folder}.unfinished`
      await rm(unfinished, { recursive: true, force: true })
      await mkdir(unfinished)
      await make(unfinished)
      await rename(unfinished, folder)
    })
  return { kernel: join(folder, 'vmlinuz'), initrd: join(folder, 'initrd.gz'), folder }
}

async function make(folder: string): Promise<void> {
  const name = /^\s*Depends: (linux-image-\S+)$/m.exec(
    (await run('apt-cache', ['depends', 'linux-image-amd64'])).stdout,
  )
  if (!name?.[1])
    throw new Error('Cannot boot a guest as apt must have linux-image-amd64: it has not (apt-get update helps?)')
  await unpack(name[1], folder, leftOut)
  await unpack('busybox-static', folder, ['./usr'])
  const [version = ''] = await readdir(join(folder, 'lib/modules'))
  await unpackKernel(join(folder, 'boot', `vmlinuz-${version}`), join(folder, 'vmlinuz'))
  await run('depmod', ['-b', folder, version])

  const root = join(folder, 'initrd')
  for (const part of ['bin', 'modules']) await mkdir(join(root, part), { recursive: true })
  await copyFile(join(folder, 'bin/busybox'), join(root, 'bin/busybox'))
  await writeFile(join(root, 'init'), firstInit)
  await chmod(join(root, 'init'), 0o755)
  const shown = await run('modprobe', ['-d', folder, '-S', version, '--show-depends', '-a', ...firstModules])
  const files = new Set(shown.stdout.split('\n').flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []))
  let number = 100
  for (const file of files) {
    const copy = join(root, 'modules', `${number++}-${file.split('/').at(-1)}`)
    await copyFile(file, copy)
    if (copy.endsWith('.xz')) await run('xz', ['--decompress', copy])
  }
  const archive = join(folder, 'initrd.cpio')
  const pack = 'cd "$1" && find . | "$2" cpio -o -H newc > "$3"'
  await run('sh', ['-c', pack, 'sh', root, join(folder, 'bin/busybox'), archive])
  await writeFile(join(folder, 'initrd.gz'), gzipSync(await readFile(archive)))
  for (const used of ['boot', 'bin', 'usr', 'initrd', 'initrd.cpio'])
    await rm(join(folder, used), { recursive: true, force: true })
}

/** What a compressed kernel begins with, and what takes it apart. */
const compressions = [
  { magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), program: 'xz' },
  { magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), program: 'zstd' },
]
const elf = Buffer.from([0x7f, 0x45, 0x4c, 0x46])

/** Has the machine take the kernel apart, once, which takes a guest 3 s at each boot; where it cannot, the guest does. */
async function unpackKernel(from: string, to: string): Promise<void> {
  const packed = await readFile(from)
  for (const { magic, program } of compressions) {
    const at = packed.indexOf(magic)
    if (at < 0) continue
    // What follows the end is not theirs, which both say by their exit status.
    const script = `tail -c "+$1" "$2" | ${program} -dcq > "$3" 2> /dev/null || true`
    await run('sh', ['-c', script, 'sh', String(at + 1), from, to])
    const file = await open(to)
    const { buffer } = await file.read(Buffer.alloc(elf.length), 0, elf.length, 0).finally(() => file.close())
    if (buffer.equals(elf)) return
  }
  await rename(from, to)
}

/** Fetches a package of Debian and unpacks it below a folder, without those paths. */
async function unpack(name: string, folder: string, without: readonly string[]): Promise<void> {
  const into = join(folder, 'package')
  await mkdir(into)
  await run('env', ['-C', into, 'apt-get', '-q', 'download', name])
  const [file = ''] = await readdir(into)
  const script = 'dpkg-deb --fsys-tarfile "$1" | { cd "$2" && shift 2 && tar -x "$@"; }'
  await run('sh', ['-c', script, 'sh', join(into, file), folder, ...without.map((path) => `--exclude=${path}`)])
  await rm(into, { recursive: true })
}

if (import.meta.main) process.stdout.write(`${(await ensureGuestKernel()).folder}\n`)
