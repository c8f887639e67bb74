import { constants } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { type TestNode, withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('daemon on this kernel')
const mebibyte = 2 ** 20
const volumeOptions = (sizeBytes: number, fsType = 'ext4') => ({
  sizeBytes: String(sizeBytes),
  'kubernetes.io/fsType': fsType,
})
const small = volumeOptions(32 * mebibyte)

/** A file in the volume as a pod sees it. */
const fileOf = (node: TestNode, pod: string) => join(node.target(pod), 'file')
const write = (path: string, text: string) => writeFile(path, text, { flush: true })
const sizeBytes = async (folder: string) => {
  const { blocks, bsize } = await statfs(folder)
  return blocks * bsize
}

/** Gives the volumes folder a disk of its own, which is soon full. */
const mountSmallDisk = (node: TestNode) => run('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', node.volumesDir])

/** Takes every byte that is left. */
async function fillDisk(node: TestNode): Promise<string> {
  const filler = join(node.volumesDir, 'filler')
  const file = await open(filler, constants.O_CREAT | constants.O_WRONLY | constants.O_APPEND)
  try {
    for (const size of [mebibyte, 4096, 1]) {
      const bytes = Buffer.alloc(size)
      const append = () =>
        file.write(bytes).then(
          ({ bytesWritten }) => bytesWritten > 0,
          () => false,
        )
      while (await append());
    }
  } finally {
    await file.close()
  }
  return filler
}

/** Runs debugfs(8) on the image of a volume that nobody has mounted. */
const debugfs = (node: TestNode, request: string) => run('debugfs', ['-w', '-R', request, node.image()])

test(
  'two pods share a volume that is made, written, grown, unmounted and mounted again',
  withNode(async (node) => {
    await node.start()
    const options = volumeOptions(320 * mebibyte, 'xfs')
    for (const pod of ['a', 'b']) assert.is(await node.mount(pod, options), 'Success')
    await write(fileOf(node, 'a'), 'precious')
    assert.is(await readFile(fileOf(node, 'b'), 'utf8'), 'precious')
    const before = await sizeBytes(node.target('a'))
    const growth = { targetDir: node.target('a'), newSize: String(640 * mebibyte), oldSize: options.sizeBytes, options }
    for (let i = 0; i < 2; i++) assert.is(await node.callOut('/expandfs', growth), 'Success')
    assert.ok((await sizeBytes(node.target('b'))) > before * 1.8)
    for (const pod of ['a', 'b', 'b']) assert.is(await node.unmount(pod), 'Success')
    assert.equal(await node.mounts(), [])
    assert.equal(await node.loopDevices(), [])
    assert.is(await node.mount('c', {}), 'Success')
    assert.is(await readFile(fileOf(node, 'c'), 'utf8'), 'precious')
    assert.ok((await sizeBytes(node.target('c'))) > before * 1.8)
  }),
)

test(
  'mounts and data outlive a killed daemon, and the next one goes on as if it had been there all the time',
  withNode(async (node) => {
    const first = await node.start()
    assert.is(await node.mount('a', small), 'Success')
    assert.is(await node.mount('b', { ...small, 'kubernetes.io/readwrite': 'ro' }), 'Success')
    await write(fileOf(node, 'a'), 'precious')
    const mounts = await node.mounts()
    assert.is(mounts.length, 3)
    await first.end('SIGKILL')
    assert.ok((await stat(node.socket)).isSocket())
    assert.equal(await node.mounts(), mounts)
    await write(fileOf(node, 'a'), 'more precious')
    await node.start()
    assert.is(await node.mount('a', small), 'Success')
    assert.is(await node.mount('b', { ...small, 'kubernetes.io/readwrite': 'ro' }), 'Success')
    assert.equal(await node.mounts(), mounts)
    assert.is(await readFile(fileOf(node, 'b'), 'utf8'), 'more precious')
    for (const pod of ['a', 'b']) assert.is(await node.unmount(pod), 'Success')
    assert.equal(await node.mounts(), [])
    assert.equal(await node.loopDevices(), [])
  }),
)

test(
  'a daemon that is told to stop finishes what runs, refuses new work, and exits 0',
  withNode(async (node) => {
    const { begunBy, letGo } = await node.hold('mkfs.ext4')
    const daemon = await node.start()
    const mounting = node.mount('a', small)
    await begunBy(mounting)
    daemon.child.kill('SIGTERM')
    await daemon.says(/SIGTERM: finishing what runs/)
    assert.match(await node.mount('a', small, 'two'), /the daemon is stopping/)
    assert.match(await node.unmount('a'), /the daemon is stopping/)
    assert.is((await node.ask('GET', '/healthz')).status, 200)
    const { status, body } = await node.ask('GET', '/readyz')
    assert.equal([status, body.reasons], [503, ['it is stopping']])
    await letGo()
    assert.is(await mounting, 'Success')
    assert.is(await daemon.ended, 0)
    assert.equal(await readdir(dirname(node.socket)), ['socket.lock'])
    await write(fileOf(node, 'a'), 'text')
    assert.equal((await readdir(dirname(node.image()))).sort(), ['one.img', 'one.json'])
  }),
)

test(
  'Ctrl-C on the terminal of a daemon lets running work end, too',
  withNode(async (node) => {
    const { begunBy, letGo } = await node.hold('mkfs.ext4')
    const daemon = await node.start()
    const mounting = node.mount('a', small)
    await begunBy(mounting)
    process.kill(-Number(daemon.child.pid), 'SIGINT')
    await daemon.says(/SIGINT: finishing what runs/)
    await letGo()
    assert.is(await mounting, 'Success')
    assert.is(await daemon.ended, 0)
  }),
)

test(
  'a volume in which somebody works is not unmounted until they are done',
  withNode(async (node) => {
    await node.start()
    assert.is(await node.mount('a', small), 'Success')
    const file = await open(fileOf(node, 'a'), 'w')
    try {
      assert.match(
        await node.unmount('a'),
        new RegExp(
          `Cannot unmount .*target is busy\\.; process ${process.pid} \\(.*\\) has ${fileOf(node, 'a')} open: stop that`,
          's',
        ),
      )
    } finally {
      await file.close()
    }
    assert.is(await node.unmount('a'), 'Success')
    assert.equal(await node.mounts(), [])
  }),
)

test(
  'a volume that lost its filesystem, or its image, is lost for who looks, until it is back',
  withNode(async (node) => {
    const daemon = await node.start()
    for (const name of ['one', 'two']) {
      assert.is(await node.mount('a', small, name), 'Success')
      assert.is(await node.unmount('a', name), 'Success')
    }
    const look = async (name: string) => {
      const { state, failure, problems } = (await node.show(name)) as {
        state: string
        failure?: object
        problems: string[]
      }
      return { state, failure, problems: problems.join() }
    }
    const image = await readFile(node.image())
    await writeFile(node.image(), Buffer.alloc(1 << 20), { flag: 'r+' })
    // A daemon that formatted it, or checked it, believes that it is whole.
    await daemon.end('SIGTERM')
    await node.start()
    assert.match(await node.mount('a', small), /it is blank, and its filesystem is lost/)
    const blank = await look('one')
    assert.match(JSON.stringify(blank), /"state":"lost","failure":\{"operation":"mount",.*"at":"20/)
    assert.match(blank.problems, /^mounting it failed: Cannot mount one /)
    await writeFile(node.image(), image, { flag: 'r+' })
    assert.is(await node.mount('a', small), 'Success')
    assert.equal(await look('one'), { state: 'ready', failure: undefined, problems: '' })
    assert.is(await node.unmount('a'), 'Success')

    await rename(node.image('two'), `${node.image('two')}.away`)
    assert.match(JSON.stringify(await look('two')), /"state":"lost".*its image .* is missing/)
    await rename(`${node.image('two')}.away`, node.image('two'))
    assert.is((await look('two')).state, 'ready')
  }),
)

test(
  'mkfs and mount options of a volume take effect',
  withNode(async (node) => {
    await node.start()
    const options = { ...small, mkfsOptions: '-b 2048 -I 512', mountOptions: 'noatime,commit=30' }
    assert.is(await node.mount('a', options), 'Success')
    assert.is((await statfs(node.target('a'))).bsize, 2048)
    for (const line of await node.mounts()) assert.match(line, /\bnoatime\b.* - ext4 .*\bcommit=30\b/)
  }),
)

test(
  'an xfs volume and a copy of it are mounted side by side',
  withNode(async (node) => {
    await node.start()
    const options = volumeOptions(320 * mebibyte, 'xfs')
    for (const name of ['one', 'two']) {
      assert.is(await node.mount('a', options, name), 'Success')
      assert.is(await node.unmount('a', name), 'Success')
    }
    await run('cp', ['--sparse=always', node.image('one'), node.image('two')])
    for (const name of ['one', 'two']) assert.is(await node.mount('a', {}, name), 'Success')
  }),
)

test(
  'a daemon in a new container knows the volumes that one in an earlier container mounted',
  withNode(async (node) => {
    await node.share()
    const first = await node.start({ contained: true })
    assert.is(await node.mount('a', small), 'Success')
    await write(fileOf(node, 'a'), 'precious')
    const mounts = await node.mounts()
    const knowsIt = async () => {
      assert.equal((await node.show()).mounts, [{ target: node.target('a'), readOnly: false }])
      assert.is((await node.ask('DELETE', '/v1/volumes/one')).status, 409)
      assert.is(await node.mount('a', small), 'Success')
      assert.equal(await node.mounts(), mounts)
      assert.is(await readFile(fileOf(node, 'a'), 'utf8'), 'precious')
    }
    // Keeps the first container's mounts, and with them the path of the image, for a while.
    const container = await open(`/proc/${first.child.pid}/ns/mnt`)
    await first.end('SIGKILL')
    const second = await node.start({ contained: true })
    await knowsIt()
    await container.close()
    await knowsIt()
    await second.end('SIGKILL')
    await node.start({ contained: true })
    await knowsIt()
    assert.is(await node.unmount('a'), 'Success')
    assert.equal(await node.loopDevices(), [])
    assert.is(await node.mount('b', small), 'Success')
    assert.is(await readFile(fileOf(node, 'b'), 'utf8'), 'precious')
  }),
)

test(
  'a daemon that was killed while mkfs ran is followed by the next one only when mkfs has ended',
  withNode(async (node) => {
    const { begunBy, letGo } = await node.hold('mkfs.ext4')
    const first = await node.start()
    const mounting = node.mount('a', small).catch((error) => error.code)
    await begunBy(mounting)
    first.child.kill('SIGKILL')
    assert.is(await mounting, 'closed')
    const second = await node.launch()
    assert.is(await second.ended, 1)
    assert.match(second.output(), /Cannot lock .*: process \d+ \(.*mkfs.*\) holds it/)
    await letGo()
    await first.ended
    await node.start()
    assert.is(await node.mount('a', {}), 'Success')
    await write(fileOf(node, 'a'), 'text')
    const volume = await node.show()
    assert.equal([volume.state, volume.problems], ['ready', []])
  }),
)

test(
  'a second daemon on the same socket or the same volumes ends with status 1 and says why, and the first goes on',
  withNode(async (node) => {
    await node.start()
    const others: Record<string, string>[] = [
      { 'volumes-dir': join(node.folder, 'other-volumes') },
      { socket: join(node.folder, 'other-socket') },
    ]
    for (const flags of others) {
      const second = await node.launch({ flags })
      assert.is(await second.ended, 1)
      assert.match(second.output(), /"level":"error","message":"Cannot lock .*: process \d+ \(.+\) holds it\."/)
      assert.not.match(second.output(), /\n\s+at /)
    }
    assert.is(await node.mount('a', small), 'Success')
  }),
)

test(
  'a daemon starts over whatever lies where its socket shall be',
  withNode(async (node) => {
    await mkdir(dirname(node.socket))
    await writeFile(node.socket, 'left behind')
    const daemon = await node.start()
    assert.is((await node.ask('GET', '/healthz')).status, 200)
    assert.is((await stat(node.socket)).mode & 0o777, 0o600)
    assert.is(await daemon.end('SIGTERM'), 0)
  }),
)

test(
  'on a full disk a volume is refused and nothing of it stays, and with room again it is made',
  withNode(async (node) => {
    await mountSmallDisk(node)
    await node.start()
    assert.match(
      await node.mount('a', volumeOptions(64 * mebibyte)),
      /Cannot give one 64 MiB as the disk .* free that is not allocated/,
    )
    assert.equal(await node.traces(), [])
    const filler = await fillDisk(node)
    assert.match(await node.mount('a', volumeOptions(8 * mebibyte)), /No space left|ENOSPC|not promised/i)
    assert.equal(await node.traces(), [])
    await rm(filler)
    assert.is(await node.mount('a', volumeOptions(8 * mebibyte)), 'Success')
  }),
)

test(
  'a disk that fills up while mkfs runs is a failure of which nothing stays',
  withNode(async (node) => {
    await mountSmallDisk(node)
    await node.wrap('mkfs.ext4', `cat /dev/zero > '${node.volumesDir}/filler'\nexec "$real" "$@"`)
    await node.start()
    assert.match(await node.mount('a', volumeOptions(16 * mebibyte)), /Cannot create ext4 on \/dev\/loop/)
    assert.equal(await node.traces(), [])
  }),
)

test(
  'a volume can be removed from a full disk, to make room',
  withNode(async (node) => {
    await mountSmallDisk(node)
    await node.start()
    assert.is(await node.mount('a', volumeOptions(8 * mebibyte)), 'Success')
    assert.is(await node.unmount('a'), 'Success')
    await fillDisk(node)
    assert.equal((await node.ask('DELETE', '/v1/volumes/one')).body, { action: 'removed' })
    assert.equal(await node.traces(), [])
  }),
)

test(
  'a missing program that only some volumes need is a warning, and a failure of those that name it',
  withNode(async (node) => {
    const daemon = await node.start({ without: ['mkfs.xfs'] })
    assert.match(daemon.output(), /mkfs\.xfs/)
    assert.match(await node.mount('a', volumeOptions(320 * mebibyte, 'xfs')), /mkfs\.xfs is not installed/)
    assert.equal(await node.traces(), [])
    assert.is(await node.mount('a', small), 'Success')
  }),
)

test(
  'a daemon without a program that all volumes need ends with status 1, and says which and for what',
  withNode(async (node) => {
    const daemon = await node.launch({ without: ['losetup', 'e2fsck'] })
    assert.is(await daemon.ended, 1)
    assert.match(daemon.output(), /losetup.*e2fsck/s)
    assert.match(daemon.output(), /apt-get install/)
  }),
)

test(
  'a daemon in a cluster that has no way to the API server ends with status 1, says what to give it, and touches nothing',
  withNode(async (node) => {
    const daemon = await node.launch({ flags: { standalone: 'false', kubeconfig: join(node.folder, 'none') } })
    assert.is(await daemon.ended, 1)
    assert.match(
      daemon.output(),
      /"level":"error","message":"Cannot read .*none: ENOENT.* Without a cluster, use --standalone\./,
    )
    assert.equal(await readdir(node.volumesDir), [])
  }),
)

test(
  'a daemon whose API server is away serves, and ends at SIGTERM',
  withNode(async (node) => {
    const kubeconfig = join(node.folder, 'kubeconfig')
    const named = (kind: string, value: object) => [{ name: 'away', [kind]: value }]
    const config = {
      'current-context': 'away',
      clusters: named('cluster', { server: 'https://127.0.0.1:1' }),
      users: named('user', { token: 'none' }),
      contexts: named('context', { cluster: 'away', user: 'away' }),
    }
    await writeFile(kubeconfig, JSON.stringify(config))
    const daemon = await node.start({ flags: { standalone: 'false', kubeconfig, 'node-name': 'one' } })
    assert.match(await node.mount('a', { sizeBytes: '10000000' }), /Cannot reach the API server/)
    assert.is(await daemon.end('SIGTERM'), 0)
    assert.equal(await node.traces(), [])
  }),
)

test(
  'nothing is mounted on a target that is a file, a link, elsewhere or no path, and no volume is made for it',
  withNode(async (node) => {
    await node.start()
    const outside = join(node.folder, 'outside')
    await mkdir(join(outside, 'one'), { recursive: true })
    const place = async (pod: string, put: (path: string) => Promise<unknown>) => {
      await mkdir(dirname(node.target(pod)), { recursive: true })
      await put(node.target(pod))
    }
    await place('file', (path) => writeFile(path, ''))
    await place('link', (path) => symlink(outside, path))
    await symlink(outside, join(node.kubeletDir, 'pods/linked'))
    const targets: [unknown, RegExp][] = [
      [node.target('file'), /must be a folder: it is a file/],
      [node.target('link'), /must be a folder: it is a symbolic link/],
      [node.target('linked'), /must be a folder: it is a symbolic link/],
      [outside, /as a target/],
      [`${node.target('a')}/../../one`, /as a target/],
      [node.target('a').slice(1), /as a target/],
      [{}, /must be a path/],
    ]
    for (const [targetDir, message] of targets) {
      assert.match(await node.callOut('/mount', { targetDir, options: small }), message)
      assert.match(await node.callOut('/unmount', { targetDir }), message)
    }
    assert.equal(await node.traces(), [])
    assert.equal(await readdir(outside), ['one'])
  }),
)

test(
  'a kubelet that names its folder by a link, which the daemon does not, has its volumes mounted and unmounted',
  withNode(async (node) => {
    await node.start()
    const link = join(node.folder, 'linked-kubelet')
    await symlink(node.kubeletDir, link)
    const targetDir = node.target('a').replace(node.kubeletDir, link)
    await mkdir(targetDir, { recursive: true })
    assert.is(await node.callOut('/mount', { targetDir, options: small }), 'Success')
    assert.ok((await node.mounts()).some((mount) => mount.includes(node.target('a'))))
    assert.is(await node.callOut('/unmount', { targetDir }), 'Success')
    assert.not.ok((await node.mounts()).some((mount) => mount.includes(node.target('a'))))
  }),
)

test(
  'a target on which something else is mounted is left as it is',
  withNode(async (node) => {
    await node.start()
    assert.is(await node.mount('a', small), 'Success')
    await mkdir(node.target('b'), { recursive: true })
    await run('mount', ['-t', 'tmpfs', 'theirs', node.target('b')])
    const mounts = await node.mounts()
    assert.match(await node.mount('b', small), /theirs is mounted there/)
    assert.equal(await node.mounts(), mounts)
  }),
)

test(
  'names and sizes that are none are refused, and nothing is made',
  withNode(async (node) => {
    await node.start()
    const names = [
      'a b',
      '-a',
      '--help',
      'ä',
      '💾',
      'A',
      '..',
      '.',
      'a.b',
      'a/b',
      'a\n',
      '$(id)',
      'a'.repeat(64),
      'a'.repeat(300),
    ]
    for (const name of names) {
      const targetDir = `${dirname(node.target('a'))}/${name}`
      assert.match(await node.callOut('/mount', { targetDir, options: small }), /as a volume name|as a target/)
    }
    const sizes = ['0', '-1', '1e3', '1.5', '9223372036854775808', 'ten', '0x10', ' ', '１', '9'.repeat(300)]
    for (const sizeBytes of sizes)
      assert.match(await node.mount('a', { ...small, sizeBytes }), /option sizeBytes as a size/)
    for (const sizeBytes of [5, null, true, {}, ['1']])
      assert.match(await node.mount('a', { ...small, sizeBytes }), /option sizeBytes as it must be a string/)
    assert.match(await node.mount('a', { ...small, sizeBytes: '9223372036854775807' }), /free that is not allocated/)
    assert.match(await node.mount('a', { ...small, sizeBytes: '1' }), /must be at least 8 MiB: it is 1 B/)
    assert.match(await node.mount('a', {}), /Cannot find volume one/)
    for (const options of [undefined, null, 5, 'text', []])
      assert.match(await node.callOut('/mount', { targetDir: node.target('a'), options }), /options as they must be/)
    assert.equal(await node.traces(), [])
  }),
)

test(
  'a body of 10 MB and one that is no JSON are refused, and the daemon goes on',
  withNode(async (node) => {
    await node.start()
    const large = { targetDir: node.target('a'), options: { ...small, padding: 'x'.repeat(10 * mebibyte) } }
    assert.is((await node.ask('POST', '/mount', large)).status, 413)
    assert.match(await node.callOut('/mount', ['no object']), /must be a JSON object/)
    assert.equal(await node.traces(), [])
    assert.is(await node.mount('a', small), 'Success')
  }),
)

test(
  'a volume is not mounted as another filesystem than it holds',
  withNode(async (node) => {
    await node.start()
    assert.is(await node.mount('a', small), 'Success')
    assert.is(await node.unmount('a'), 'Success')
    assert.match(await node.mount('a', { 'kubernetes.io/fsType': 'xfs' }), /Cannot mount one as xfs: it holds ext4/)
    assert.equal(await node.mounts(), [])
    assert.is(await node.mount('a', {}), 'Success')
  }),
)

test(
  'an ext4 that was not unmounted cleanly is checked before it is mounted',
  withNode(async (node) => {
    const first = await node.start()
    assert.is(await node.mount('a', small), 'Success')
    await write(fileOf(node, 'a'), 'precious')
    assert.is(await node.unmount('a'), 'Success')
    await first.end('SIGTERM')
    const state = async () =>
      /^Filesystem state:\s+(.*)$/m.exec((await run('dumpe2fs', ['-h', node.image()])).stdout)?.[1]
    await debugfs(node, 'set_super_value state 2')
    assert.is(await state(), 'not clean with errors')
    await node.start()
    assert.is(await node.mount('a', {}), 'Success')
    assert.is(await readFile(fileOf(node, 'a'), 'utf8'), 'precious')
    assert.is(await node.unmount('a'), 'Success')
    assert.is(await state(), 'clean')
  }),
)

test(
  'an ext4 that cannot be repaired without a person is not mounted and not touched, and the message says what to do',
  withNode(async (node) => {
    const first = await node.start()
    assert.is(await node.mount('a', small), 'Success')
    assert.is(await node.unmount('a'), 'Success')
    await first.end('SIGTERM')
    await debugfs(node, 'clri <2>')
    await debugfs(node, 'set_super_value state 2')
    await node.start()
    for (let i = 0; i < 2; i++)
      assert.match(await node.mount('a', {}), /cannot safely be repaired automatically; .* run "e2fsck \/dev\/loop\d+"/)
    assert.equal(await node.mounts(), [])
  }),
)

test(
  'in a pod whose mounts nobody else sees, nothing is mounted and the daemon is not ready, until they are shared',
  withNode(async (node) => {
    const daemon = await node.start({ env: { KUBERNETES_SERVICE_HOST: '10.0.0.1' } })
    const unseen =
      /pods do not see what this container mounts in \/.*; mount that folder into it with "mountPropagation: Bidir/
    assert.match(await node.mount('a', small), unseen)
    assert.equal(await node.mounts(), [])
    const { status, body } = await node.ask('GET', '/readyz')
    assert.is(status, 503)
    assert.match(String(body.reasons), unseen)
    assert.match(daemon.output(), /Nothing is mounted for pods: pods do not see/)
    await node.share()
    assert.is(await node.mount('a', small), 'Success')
    assert.is((await node.ask('GET', '/readyz')).status, 200)
    assert.is(await node.unmount('a'), 'Success')
  }),
)

test.run()
