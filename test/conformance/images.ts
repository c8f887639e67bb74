/** What the pods of the suite run: all its images in one, of Debian's static busybox and bash and the suite's agnhost. */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { architectures, type NodeArch } from '../../image/contents.ts'
import { download, unpack } from '../../image/debian.ts'
import { run } from '../../src/run.ts'

const env = ['PATH=/usr/local/bin:/usr/bin:/bin:/']
/** How they start, by what the names of the suite's images begin with; each is the same files. */
const starts: Readonly<Record<string, object>> = {
  busybox: { Cmd: ['sh'] },
  'glibc-dns-testing': { Cmd: ['sh'] },
  pause: { Entrypoint: ['sleep', '2147483647'] },
  nginx: { Cmd: ['httpd', '-f', '-p', '80', '-h', '/usr/share/nginx/html'] },
  agnhost: { Entrypoint: ['/agnhost'], Cmd: ['pause'] },
}

/**
 * Writes one archive in the format of `docker save`, with the images by the names that the suite itself lists. Takes a
 * folder for packages, the programs, and the folder of module k8s.io/kubernetes.
 */
export async function makeImages(
  file: string,
  { cache, agnhost, specs, kubernetes }: { cache: string; agnhost: string; specs: string; kubernetes: string },
): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'elastic-local-conformance-'))
  try {
    await makeRoot(join(work, 'root'), { cache, agnhost, porter: join(kubernetes, 'test/images/agnhost/porter') })
    const image = join(work, 'image')
    await mkdir(image)
    const reproducible = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0']
    await run('tar', [
      ...reproducible,
      '--create',
      '--file',
      join(image, 'layer.tar'),
      '--directory',
      join(work, 'root'),
      '.',
    ])
    const layer = await readFile(join(image, 'layer.tar'))
    const diffId = `sha256:${createHash('sha256').update(layer).digest('hex')}`
    const names = await listImages(specs)
    const manifest = []
    for (const [kind, start] of Object.entries(starts)) {
      const config = {
        architecture: architectures[process.arch as NodeArch],
        os: 'linux',
        config: { Env: env, ...start },
        rootfs: { type: 'layers', diff_ids: [diffId] },
      }
      await writeFile(join(image, `${kind}.json`), JSON.stringify(config))
      const tags = names.filter((name) => basename(name).startsWith(`${kind}:`))
      manifest.push({ Config: `${kind}.json`, RepoTags: tags, Layers: ['layer.tar'] })
    }
    await writeFile(join(image, 'manifest.json'), JSON.stringify(manifest))
    await run('tar', ['--create', '--file', file, '--directory', image, '.'])
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** The images that the suite's pods name. */
async function listImages(specs: string): Promise<string[]> {
  const { stdout } = await run(specs, ['--list-images'])
  return stdout.split('\n').filter((line) => line.includes(':'))
}

async function makeRoot(
  root: string,
  { cache, agnhost, porter }: { cache: string; agnhost: string; porter: string },
): Promise<void> {
  const file = (path: string) => join(root, path)
  const umask = process.umask(0o022)
  try {
    for (const folder of ['bin', 'usr/bin', 'etc', 'root', 'usr/share/nginx/html', 'uploads', 'tmp'])
      await mkdir(file(folder), { recursive: true })
    await chmod(file('tmp'), 0o1777)
    await mkdir(cache, { recursive: true })
    const wanted = ['busybox-static', 'bash-static']
    const architecture = architectures[process.arch as NodeArch]
    const archives = await download(wanted, { architecture, folder: cache, refresh: false })
    const packages = `${root}.packages`
    for (const archive of archives)
      if (wanted.some((name) => basename(archive).startsWith(`${name}_`))) await unpack(archive, packages)
    await copyFile(join(packages, 'busybox-static/bin/busybox'), file('bin/busybox'))
    await copyFile(join(packages, 'bash-static/bin/bash-static'), file('bin/bash'))
    const { stdout } = await run(file('bin/busybox'), ['--list'])
    for (const name of stdout.split('\n'))
      if (name !== '' && name !== 'busybox' && name !== 'bash') await symlink('busybox', file(`bin/${name}`))
    await symlink('../../bin/env', file('usr/bin/env'))
    await writeFile(file('etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
    await writeFile(file('etc/group'), 'root:x:0:\n')
    await writeFile(file('usr/share/nginx/html/index.html'), 'hello\n')
    await copyFile(agnhost, file('agnhost'))
    await symlink('agnhost', file('agnhost-2'))
    // Some of its pods serve them.
    for (const name of ['localhost.crt', 'localhost.key']) {
      await copyFile(join(porter, name), file(name))
      await chmod(file(name), 0o644)
    }
  } finally {
    process.umask(umask)
  }
}
