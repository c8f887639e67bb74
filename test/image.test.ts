/** The image as `make image` makes it: what is in it, that it is the same every time, and that it works. Root only. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import {
  chmod,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Version } from '@cyclonedx/cyclonedx-library/Spec'
import { JsonStrictValidator } from '@cyclonedx/cyclonedx-library/Validation'
import * as assert from 'uvu/assert'
import { findBundledPackages, findCommit, findCommitDate } from '../build.mjs'
import { buildImage, gather, imageName } from '../image/build.ts'
import { type Architecture, architectures, contents, type NodeArch } from '../image/contents.ts'
import { run } from '../src/run.ts'
import { requiredTools } from '../src/tools.ts'
import { findFreePorts } from './cluster/control-plane.ts'
import { ensureImage, withDockerfileImage } from './cluster/image.ts'
import { poll } from './cluster/program.ts'
import { createDisk, runInGuest } from './guest/guest.ts'
import { suite } from './suite.ts'

const tree = join(import.meta.dirname, '..')
const archive = join(tree, 'dist/image/elastic-local.oci.tar')
const own = architectures[process.arch as NodeArch]
const both = Object.values(architectures)
const driver = 'volumes.k8s.elastic.co~elastic-local'

interface Descriptor {
  digest: string
  platform: { architecture: Architecture }
}
interface World {
  folder: string
  digest: string
  image: Map<Architecture, { manifest: Descriptor; config: Record<string, unknown>; root: string }>
}

const test = suite<World>('image')
const children = new Set<ChildProcess>()

test.before(async (world) => {
  world.folder = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-image-test-')))
  // The same in all that is built here, whatever happens to the tree meanwhile.
  process.env.COMMIT = findCommit()
  process.env.SOURCE_DATE_EPOCH = String(findCommitDate().getTime() / 1000)
  const materials = []
  for (const arch of Object.keys(architectures) as NodeArch[]) materials.push(await gather(arch, false, () => {}))
  await mkdir(join(tree, 'dist/image'), { recursive: true })
  world.digest = await buildImage(archive, materials, () => {})
  const layout = join(world.folder, 'layout')
  const { manifests } = await unpackLayout(archive, layout)
  world.image = new Map()
  for (const manifest of manifests) {
    const { architecture } = manifest.platform
    const root = join(world.folder, architecture)
    await mkdir(root)
    const { config, layers } = await readBlob(layout, manifest.digest)
    for (const { digest } of layers)
      await run('tar', ['--extract', '--gzip', '--file', blob(layout, digest), '--directory', root])
    world.image.set(architecture, { manifest, config: await readBlob(layout, config.digest), root })
  }
})

test.after.each(async () => {
  for (const child of children) {
    const ended = once(child, 'exit')
    if (child.kill('SIGKILL')) await ended
  }
  children.clear()
})

test.after(({ folder }) => rm(folder, { recursive: true, force: true }))

const blob = (layout: string, digest: string) => join(layout, 'blobs', digest.replace(':', '/'))
const readBlob = async (layout: string, digest: string) => JSON.parse(await readFile(blob(layout, digest), 'utf8'))

/** Unpacks an archive of an image, and gives its index. */
async function unpackLayout(file: string, layout: string): Promise<{ manifests: Descriptor[] }> {
  await mkdir(layout)
  await run('tar', ['--extract', '--file', file, '--directory', layout])
  const { manifests } = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'))
  return await readBlob(layout, manifests[0].digest)
}

const variant = ({ image }: World, architecture: Architecture) => {
  const found = image.get(architecture)
  if (!found) throw new Error(`There is no image for ${architecture}`)
  return found
}

const linkOf = (path: string) => readlink(path).catch(() => undefined)

/** The programs of an image that are no other name of one. */
async function programsOf(root: string): Promise<string[]> {
  const folders = ['/usr/bin', '/usr/sbin', '/usr/local/bin']
  const found = await Promise.all(
    folders.map(async (folder) => (await readdir(join(root, folder))).map((name) => `${folder}/${name}`)),
  )
  const links = await Promise.all(found.flat().map((path) => linkOf(join(root, path))))
  return found
    .flat()
    .filter((_, index) => links[index] === undefined)
    .sort()
}

/** How to run a program of an image on this machine: as it is, or in an emulator. */
async function commandOf(world: World, architecture: Architecture, path: string): Promise<[string, string[]]> {
  const { root } = variant(world, architecture)
  if (architecture === own) {
    const script = 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'
    return ['unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script, root, path]]
  }
  // Only the loader and the libraries are looked for there before they are on the machine.
  const prefix = join(world.folder, `prefix-${architecture}`)
  await mkdir(prefix, { recursive: true })
  if (!existsSync(join(prefix, 'lib'))) await symlink(join(root, 'usr/lib'), join(prefix, 'lib'))
  const emulator = { amd64: 'qemu-x86_64', arm64: 'qemu-aarch64' }[architecture]
  return [emulator, ['-L', prefix, '-0', path, join(root, path)]]
}

const packagesOf = async (root: string) =>
  [
    ...(await readFile(join(root, 'var/lib/dpkg/status'), 'utf8')).matchAll(
      /^Package: (.*)\n(?:.*\n)*?Version: (.*)$/gm,
    ),
  ].map(([, name = '', version = '']) => ({ name, version }))

test('there is one for each architecture, which starts the executable, and says what it is', async (world) => {
  assert.equal([...world.image.keys()], both)
  for (const [architecture, { config }] of world.image) {
    assert.equal([config.architecture, config.os], [architecture, 'linux'])
    const { Entrypoint, Labels } = config.config as { Entrypoint: string[]; Labels: Record<string, string> }
    assert.equal(Entrypoint, ['elastic-local'])
    assert.is(Labels['org.opencontainers.image.revision'], findCommit())
    assert.is(`elastic-local:${Labels['org.opencontainers.image.version']}`, imageName)
    assert.is(config.created, findCommitDate().toISOString())
  }
  assert.match(await readFile(join(tree, 'deploy.yaml'), 'utf8'), ` image: ${imageName}\n`)
})

test('it is the one that is tested in the cluster', async (world) => {
  const tested = await unpackLayout((await ensureImage()).archive, join(world.folder, 'tested'))
  assert.equal(
    tested.manifests.map(({ digest }) => digest),
    [variant(world, own).manifest.digest],
  )
})

test('made again elsewhere, at another time and by another user, it has the same digest', async (world) => {
  const copy = join(world.folder, 'copy')
  await mkdir(join(copy, 'node_modules'), { recursive: true })
  for (const part of ['src', 'image', 'build.mjs', 'package.json', 'package-lock.json', 'tsconfig.json'])
    await cp(join(tree, part), join(copy, part), { recursive: true })
  await run('mount', ['--bind', join(tree, 'node_modules'), join(copy, 'node_modules')])
  const script = `
    import { buildImage, gather } from './image/build.ts'
    const materials = []
    for (const arch of ['x64', 'arm64']) materials.push(await gather(arch, false, () => {}))
    process.stdout.write('\\n' + (await buildImage('again.oci.tar', materials, () => {})))`
  const settings = ['TZ=Asia/Kathmandu', 'LANG=tr_TR.UTF-8']
  const node = [process.execPath, '--input-type=module', '--eval', script]
  const shell = ['sh', '-c', 'umask 077 && cd "$0" && exec "$@"', copy, 'env', ...settings, ...node]
  try {
    const [file = '', ...args] = shell
    assert.is((await run(file, args)).stdout.split('\n').at(-1), world.digest)
  } finally {
    await run('umount', [join(copy, 'node_modules')])
  }
})

test('it has what the daemon runs, and no other program, no shell and nothing that gives rights', async (world) => {
  const wanted = [...Object.values(contents).flat(), '/usr/local/bin/elastic-local']
  const tools = (['LVM', 'LOOP', 'BINDMOUNT'] as const).flatMap((kind) => requiredTools(kind, true, true))
  for (const { root } of world.image.values()) {
    assert.equal(await programsOf(root), wanted.filter((path) => /bin\/./.test(path)).sort())
    const missing = tools.filter(
      ({ tool }) => !['bin', 'sbin'].some((folder) => existsSync(join(root, 'usr', folder, tool))),
    )
    assert.equal(missing, [])
    for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      const { mode, uid, gid } = await lstat(path)
      assert.equal([uid, gid, mode & 0o6000], [0, 0, 0], path)
      if (!entry.isSymbolicLink() && !/\/tmp$/.test(path)) assert.is(mode & 0o022, 0, path)
    }
  }
})

for (const architecture of both)
  test(`every program starts on ${architecture}, with all its libraries`, async (world) => {
    for (const path of await programsOf(variant(world, architecture).root)) {
      const [file, args] = await commandOf(world, architecture, path)
      // What they say, and how they end, when they do not know an option, is their own affair.
      const others = Array.from({ length: 126 }, (_, code) => code)
      const { stdout, stderr } = await run(file, [...args, '--help'], { accept: others })
      assert.match(stdout + stderr, /usage|unrecognized option|available lvm commands/i, path)
    }
    const [file, args] = await commandOf(world, architecture, '/usr/local/bin/elastic-local')
    assert.match(
      (await run(file, [...args, 'version'])).stdout,
      new RegExp(`Node \\S+, ${architecture === 'arm64' ? 'arm64' : 'x64'}\n$`),
    )
  })

for (const architecture of both)
  test(`each filesystem is made on ${architecture}, and is whole`, async (world) => {
    const makers = {
      ext4: ['/usr/sbin/mkfs.ext4', '-q', '-F'],
      xfs: ['/usr/sbin/mkfs.xfs', '-q'],
      btrfs: ['/usr/sbin/mkfs.btrfs', '-q'],
    }
    const checkers: Record<string, string[]> = {
      ext4: ['e2fsck', '-f', '-n'],
      xfs: ['xfs_repair', '-n'],
      btrfs: ['btrfs', 'check'],
    }
    for (const [fsType, [path = '', ...options]] of Object.entries(makers)) {
      const name = `${fsType}.img`
      const image = join(variant(world, architecture).root, 'mnt', name)
      await writeFile(image, '')
      await truncate(image, 320 * 2 ** 20)
      const [file, args] = await commandOf(world, architecture, path)
      await run(file, [...args, ...options, architecture === own ? `/mnt/${name}` : image])
      const [checker = '', ...words] = checkers[fsType] ?? []
      await run(checker, [...words, image])
      assert.match((await run('blkid', ['-p', '-o', 'export', image])).stdout, `TYPE=${fsType}\n`)
      await rm(image)
    }
  })

test('the daemon for another architecture makes, mounts and removes a volume, with the tools of its image', async (world) => {
  const architecture = both.find((name) => name !== own) as Architecture
  const { root } = variant(world, architecture)
  const [place, bin] = [join(world.folder, 'node'), join(world.folder, 'bin')]
  await mkdir(bin)
  for (const folder of ['usr/bin', 'usr/sbin'])
    for (const name of await readdir(join(root, folder))) {
      const [file, args] = await commandOf(world, architecture, `/${folder}/${name}`)
      await writeFile(join(bin, name), `#!/bin/sh\nexec ${file} ${args.join(' ')} "$@"\n`)
      await chmod(join(bin, name), 0o755)
    }
  const [file, args] = await commandOf(world, architecture, '/usr/local/bin/elastic-local')
  const socket = `--socket=${join(place, 'socket')}`
  const folders = [`--volumes-dir=${join(place, 'volumes')}`, `--kubelet-dir=${join(place, 'kubelet')}`]
  const daemon = spawn(file, [...args, 'daemon', '--standalone', '--driver-kind=LOOP', socket, ...folders], {
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
    stdio: ['ignore', 'inherit', 'pipe'],
  })
  children.add(daemon)
  let log = ''
  await new Promise<void>((resolve, reject) => {
    daemon.once('exit', () => reject(new Error(`The daemon ended: ${log}`)))
    daemon.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text
      if (log.includes('Serving')) resolve()
    })
  })
  const ask = async (...words: string[]) =>
    (await run('env', [`ELASTIC_LOCAL_SOCKET=${join(place, 'socket')}`, file, ...args, ...words])).stdout
  const options = JSON.stringify({ 'kubernetes.io/pvOrVolumeName': 'pvc-1', sizeBytes: String(64 * 2 ** 20) })
  const target = join(place, 'kubelet/pods/11111111-aaaa-4000-8000-000000000001/volumes', driver, 'pvc-1')
  await mkdir(target, { recursive: true })
  assert.is(JSON.parse(await ask('mount', target, options)).status, 'Success')
  await writeFile(join(target, 'data'), 'precious', { flush: true })
  assert.is(JSON.parse(await ask('unmount', target)).status, 'Success')
  assert.is(JSON.parse(await ask('mount', target, options)).status, 'Success')
  assert.is(await readFile(join(target, 'data'), 'utf8'), 'precious')
  assert.is(JSON.parse(await ask('unmount', target)).status, 'Success')
  await ask('volumes', 'remove', '--yes', 'pvc-1')
  daemon.kill('SIGTERM')
  assert.equal(await once(daemon, 'exit'), [0, null])
})

test('on real LVM, its daemon makes thin volumes with each filesystem, grows and removes them', async (world) => {
  const disk = join(world.folder, 'disk.img')
  await createDisk(disk, 4 * 2 ** 30)
  const { exitCode, stdout, stderr } = await runInGuest({
    modules: ['btrfs'],
    disk,
    program: join(import.meta.dirname, 'guest/image.ts'),
    args: [variant(world, own).root],
    scratchDir: world.folder,
    timeoutMs: 600_000,
  })
  assert.is(exitCode, 0, stderr)
  const volumes: { fsType: string; sizeBytes: string }[] = JSON.parse(stdout)
  assert.equal(volumes.map(({ fsType }) => fsType).sort(), ['btrfs', 'ext4', 'xfs'])
})

test('config/Dockerfile gives the same tools, in the same versions, and the same start', async (world) => {
  await withDockerfileImage(async ({ config, packages, have }) => {
    // After that, as it may have got new packages.
    const { archives } = await gather(process.arch as NodeArch, false, () => {})
    const { root, config: ours } = variant(world, own)
    const names = (await packagesOf(root)).map(({ name }) => name)
    const versions = new Map(
      archives.map((file) => {
        const [name = '', version = ''] = file.slice(file.lastIndexOf('/') + 1).split('_')
        return [name, version.replace('%3a', ':')]
      }),
    )
    assert.equal(
      names.map((name) => [name, packages.get(name)]),
      names.map((name) => [name, versions.get(name)]),
    )
    const programs = await programsOf(root)
    assert.equal((await have(programs)).sort(), programs)
    const { Entrypoint, Labels } = ours.config as typeof config
    assert.equal(config.Entrypoint, Entrypoint)
    for (const [label, text] of Object.entries(config.Labels))
      if (label.startsWith('org.opencontainers.')) assert.is(Labels[label], text, label)
  })
})

test('the SBOM names every package with its version and licence, and their texts are there', async (world) => {
  for (const [architecture, { root }] of world.image) {
    const inside = await readFile(join(root, 'usr/share/doc/elastic-local/sbom.cdx.json'), 'utf8')
    const beside = (kind: string) => readFile(archive.replace('.oci.tar', `-${architecture}.${kind}`), 'utf8')
    assert.is(inside, await beside('cdx.json'))
    assert.is(await new JsonStrictValidator(Version.v1dot6).validate(inside), null)
    const components: { purl: string; licenses?: object[]; hashes: object[] }[] = JSON.parse(inside).components
    assert.equal(
      components.filter(({ licenses = [] }) => licenses.length === 0),
      [],
    )

    const packages = await packagesOf(root)
    assert.ok(packages.length > 30)
    const npm = await Promise.all(
      (await findBundledPackages()).map(async (folder) =>
        JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')),
      ),
    )
    const node = process.versions.node
    const encode = (name: string) => name.replaceAll('+', '%2B').replaceAll('@', '%40')
    const expected = [
      ...packages.map(({ name, version }) => `pkg:deb/debian/${encode(name)}@${version}`),
      ...npm.map(({ name, version }) => `pkg:npm/${encode(name)}@${version}`),
      `pkg:generic/node@${node}`,
    ]
    assert.equal(components.map(({ purl }) => purl.split('?')[0]).sort(), expected.sort())
    const { dependencies } = JSON.parse(await readFile(join(tree, 'package.json'), 'utf8'))
    for (const name of Object.keys(dependencies))
      assert.ok(
        npm.some((entry) => entry.name === name),
        name,
      )

    const licences = await beside('licences.txt')
    const copyright = await readFile(join(root, 'usr/share/doc/elastic-local/copyright'), 'utf8')
    for (const { name } of packages) {
      const text = (await readFile(join(root, 'usr/share/doc', name, 'copyright'), 'utf8')).trim()
      assert.ok(text.length > 100 && licences.includes(text), name)
      for (const [path] of text.matchAll(/\/usr\/share\/common-licenses\/[\w.-]*\w/g))
        assert.ok(await stat(join(root, path)), path)
    }
    for (const { name, version } of [...npm, { name: 'node', version: node }]) {
      const [, section = ''] = copyright.split(`==== ${name} ${version} (`)
      assert.match(section.split('\n====')[0] ?? '', /permi(t|ssion)|licensed under|^Unlicense\) ====/i, name)
      assert.ok(licences.includes(`==== ${name} ${version} (`), name)
    }
  }
})

test('make docker-build-push pushes it for all architectures, and says what is wrong without IMAGE', async (world) => {
  const [port = 0] = await findFreePorts(1, '127.0.0.1')
  const place = (name: string) => join(world.folder, name)
  await writeFile(
    place('registry.yml'),
    JSON.stringify({
      version: 0.1,
      log: { level: 'error' },
      storage: { filesystem: { rootdirectory: place('registry') } },
      http: { addr: `127.0.0.1:${port}` },
    }),
  )
  const registry = spawn('docker-registry', ['serve', place('registry.yml')], { stdio: 'ignore' })
  children.add(registry)
  const address = `127.0.0.1:${port}`
  // As a user has it who keeps a registry without TLS.
  const settings = place('home/.config/containers')
  await mkdir(settings, { recursive: true })
  await writeFile(join(settings, 'registries.conf'), `[[registry]]\nlocation = "${address}"\ninsecure = true\n`)
  const withRegistry = ['env', `HOME=${place('home')}`]
  const answers = () =>
    fetch(`http://${address}/v2/`).then(
      ({ ok }) => ok,
      () => false,
    )
  await poll(answers, 30_000)

  // Nothing is built again: what would be pushed is there.
  const make = ['make', '--silent', '--directory', tree, '--old-file=image', 'docker-build-push']
  const [command = '', ...args] = [...withRegistry, ...make, `IMAGE=${address}/storage/elastic-local:1`]
  await run(command, args)
  const get = (what: string) =>
    fetch(`http://${address}/v2/storage/elastic-local/manifests/${what}`, {
      headers: { accept: 'application/vnd.oci.image.index.v1+json' },
    })
  const pushed = await get('1')
  assert.is(pushed.headers.get('docker-content-digest'), world.digest)
  for (const { manifest } of world.image.values()) {
    const inspect = ['skopeo', `--override-arch=${manifest.platform.architecture}`, 'inspect', '--config']
    const [file = '', ...words] = [...withRegistry, ...inspect, `docker://${address}/storage/elastic-local:1`]
    assert.is(JSON.parse((await run(file, words)).stdout).architecture, manifest.platform.architecture)
  }

  const [other = '', ...rest] = make
  const { exitCode, stderr } = await run(other, rest, { accept: [2] })
  assert.is(exitCode, 2)
  assert.match(stderr, 'Cannot push the image as IMAGE must be registry/name:tag: it is empty.')
})

test.run()
