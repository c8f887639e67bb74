import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, realpath, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { imageName } from '../../image/build.ts'
import { readMountTable } from '../../src/mount/table.ts'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import type { KubeObject } from './api.ts'
import { findCgroups } from './cgroups.ts'
import { type Cluster, startCluster } from './cluster.ts'
import { type ContainerNode, flexPluginDir, startContainerNode } from './containers.ts'
import { ensureImage } from './image.ts'
import { enterOwnNetwork, ownAddress } from './network.ts'
import { poll } from './program.ts'
import { atTermination } from './termination.ts'
import { buildPod, installToyDriver, podPath, toyDriver } from './toy.ts'

enterOwnNetwork()

interface World {
  folder: string
  cluster: Cluster
  node: ContainerNode
  forget: () => void
}

const test = suite<World>('nodes with containers')

const isRunning = (pod: KubeObject | undefined) => pod?.status.phase === 'Running'
const hasEnded = (pod: KubeObject | undefined) => ['Succeeded', 'Failed'].includes(pod?.status.phase)

/** What runs a shell script in a pod's only container. */
const runsScript = (script: string, more: { image?: string; container?: object; mounts?: object[] } = {}) => ({
  restartPolicy: 'Never',
  terminationGracePeriodSeconds: 1,
  containers: [
    {
      name: 'main',
      image: more.image ?? 'busybox:test',
      imagePullPolicy: 'Never',
      command: ['sh', '-c', script],
      volumeMounts: more.mounts ?? [],
      ...more.container,
    },
  ],
})

/** The processes that descend from one, and it. */
async function descendantsOf(pid: number): Promise<string[]> {
  const { stdout } = await run('ps', ['-e', '-o', 'pid=,ppid='])
  const parents = stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  const found = [String(pid)]
  for (const parent of found) found.push(...parents.flatMap(([child = '', its]) => (its === parent ? [child] : [])))
  return found
}

/** Those that run; one that has ended may still wait for its parent to look. */
async function stillRunning(pids: readonly string[]): Promise<string[]> {
  const { stdout } = await run('ps', ['-o', 'pid=,stat=', '-p', pids.join(',')], { accept: [1] })
  return stdout.split('\n').filter((line) => line !== '' && !line.includes('Z'))
}

/** Waits for what no event tells. */
const until = (check: () => Promise<boolean>) => poll(check, 10_000, new AbortController().signal)

/** The loop devices over a file, by its inode; others on this machine come and go. */
const devicesOver = async (inode: number) => {
  const { stdout } = await run('losetup', ['--list', '--noheadings', '--raw', '--output', 'BACK-INO,NAME'])
  return stdout.split('\n').filter((line) => line.startsWith(`${inode} `))
}

test.before(async (world) => {
  world.folder = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-containers-')))
  world.forget = atTermination(() => rm(world.folder, { recursive: true, force: true }))
  world.cluster = await startCluster({ folder: world.folder, address: ownAddress })
  const images = [await ensureImage()]
  world.node = await startContainerNode(world.cluster, { name: 'node-1', images, labels: { zone: 'a' } })
})

test.after(async ({ cluster, node, folder, forget }) => {
  await node?.close()
  await cluster?.close()
  await rm(folder, { recursive: true, force: true })
  forget()
})

test('a container writes into a folder of the node, and its output can be read', async ({ cluster, node }) => {
  await cluster.apply(
    buildPod(
      'writer',
      [{ name: 'data', hostPath: { path: '/mnt/data', type: 'DirectoryOrCreate' } }],
      runsScript('echo precious > /data/file; echo done', {
        mounts: [{ name: 'data', mountPath: '/data' }],
      }),
    ),
  )
  const { status, spec } = await cluster.waitFor(podPath('writer'), hasEnded)
  assert.is(status.phase, 'Succeeded')
  assert.is(spec.nodeName, 'node-1')
  assert.is(await readFile(node.path('/mnt/data/file'), 'utf8'), 'precious\n')
  // The last lines may come after the end.
  await until(async () => (await node.logs({ name: 'writer' })) === 'done\n')
  assert.is((await cluster.kubectl(['logs', 'writer'])).stdout, 'done\n')
})

test('a pod reaches the API server from the network of pods, and kubectl reaches into the pod', async ({ cluster }) => {
  const { hostname, port } = new URL(cluster.server)
  await cluster.apply(buildPod('caller', [], runsScript(`nc -w 5 ${hostname} ${port} </dev/null && sleep 1000`)))
  await cluster.waitFor(podPath('caller'), isRunning)
  const { stdout } = await cluster.kubectl(['exec', 'caller', '--', 'hostname'])
  assert.is(stdout, 'caller\n')
})

test('what a privileged container mounts below the folder of the kubelet is mounted on the node', async ({
  cluster,
  node,
}) => {
  const folder = '/var/lib/kubelet/mounted'
  await cluster.apply(
    buildPod(
      'mounter',
      [{ name: 'kubelet', hostPath: { path: '/var/lib/kubelet', type: 'Directory' } }],
      runsScript(`mkdir ${folder} && mount -t tmpfs tmpfs ${folder} && echo seen > ${folder}/file && sleep 1000`, {
        container: { securityContext: { privileged: true } },
        mounts: [{ name: 'kubelet', mountPath: '/var/lib/kubelet', mountPropagation: 'Bidirectional' }],
      }),
    ),
  )
  await cluster.waitFor(podPath('mounter'), isRunning)
  await until(async () => existsSync(node.path(`${folder}/file`)))
  assert.ok((await node.mounts()).includes(folder))
})

test('a flex driver of the node mounts a volume, and a container writes into it', async ({ cluster, node }) => {
  await installToyDriver(node.path(flexPluginDir))
  await cluster.apply(
    buildPod(
      'flex',
      [{ name: 'toy', flexVolume: { driver: toyDriver } }],
      runsScript('echo precious > /toy/file; exec sleep 1000', {
        mounts: [{ name: 'toy', mountPath: '/toy' }],
        container: { readinessProbe: { exec: { command: ['cat', '/toy/file'] }, periodSeconds: 1 } },
      }),
    ),
  )
  const isReady = (pod: KubeObject | undefined) => pod?.status.containerStatuses?.[0]?.ready === true
  const { metadata } = await cluster.waitFor(podPath('flex'), isReady)
  const target = `/var/lib/kubelet/pods/${metadata.uid}/volumes/test~toy/toy`
  assert.is(await readFile(node.path(`${target}/file`), 'utf8'), 'precious\n')
  await cluster.kubectl(['delete', 'pod', 'flex', '--wait=false'])
  await cluster.waitFor(podPath('flex'), (pod) => pod === undefined)
  assert.not.ok((await node.mounts()).includes(target))
})

test('the image starts as it is', async ({ cluster, node }) => {
  await cluster.apply(
    buildPod('version', [], runsScript('', { image: imageName, container: { command: undefined, args: ['version'] } })),
  )
  const { status } = await cluster.waitFor(podPath('version'), hasEnded)
  assert.is(status.phase, 'Succeeded')
  await until(async () =>
    /^elastic-local \d\S+, commit \S+, Node \S+, \w+\n$/.test(await node.logs({ name: 'version' })),
  )
})

test('containers go on while the kubelet and containerd are ended and started again', async ({ cluster, node }) => {
  const counts = 'i=0; while sleep 0.1; do i=$((i + 1)); echo $i > /counter/value; done'
  await cluster.apply(
    buildPod(
      'counter',
      [{ name: 'counter', hostPath: { path: '/mnt/counter', type: 'DirectoryOrCreate' } }],
      runsScript(counts, { mounts: [{ name: 'counter', mountPath: '/counter' }] }),
    ),
  )
  await cluster.waitFor(podPath('counter'), isRunning)
  await node.kubelet.kill()
  await node.containerd.kill()
  await node.containerd.start()
  await node.kubelet.start()
  await cluster.apply(buildPod('after', [], runsScript('true')))
  await cluster.waitFor(podPath('after'), hasEnded)
  const { status } = await cluster.waitFor(podPath('counter'), isRunning)
  assert.is(status.containerStatuses[0].restartCount, 0)
})

test('close() leaves no process, mount, loop device, control group or bridge', async ({ node, folder }) => {
  await node.run('truncate', '--size', '16M', '/mnt/image')
  await node.run('losetup', '--find', '/mnt/image')
  const { ino } = await stat(node.path('/mnt/image'))
  assert.is((await devicesOver(ino)).length, 1)
  const pids = await descendantsOf(node.pid)
  assert.ok(pids.length > 10)
  assert.ok((await findCgroups(node.cgroup)).length > 0)
  await node.close()
  assert.equal(await stillRunning(pids), [])
  assert.equal((await readMountTable()).under(folder), [])
  assert.equal(await devicesOver(ino), [])
  assert.equal(await findCgroups(node.cgroup), [])
  assert.not.match((await run('ip', ['link'])).stdout, /pods|veth/)
})

for (const signal of ['SIGKILL', 'SIGTERM'] as const)
  test(`no process of a node outlives its test, which ${signal} ends`, async ({ folder }) => {
    const place = join(folder, signal)
    const module = (name: string) => JSON.stringify(join(import.meta.dirname, name))
    const script = `
      import { startCluster } from ${module('cluster.ts')}
      import { startContainerNode } from ${module('containers.ts')}
      import { buildPod } from ${module('toy.ts')}
      const cluster = await startCluster({ folder: ${JSON.stringify(place)}, address: '${ownAddress}' })
      const node = await startContainerNode(cluster, { name: 'node-1' })
      await cluster.apply(buildPod('sleeper', [], ${JSON.stringify(runsScript('exec sleep 1000'))}))
      await cluster.waitFor('${podPath('sleeper')}', (pod) => pod?.status.phase === 'Running')
      console.log(node.pid)`
    const args = ['--propagation', 'private', '--mount', process.execPath, '--input-type=module', '--eval', script]
    const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [pid] = await once(child.stdout, 'data')
    const pids = await descendantsOf(Number(pid))
    assert.ok(pids.length > 5)
    child.kill(signal)
    await once(child, 'close')
    // The kernel is about to end those of a test that could not do it itself.
    await until(async () => (await stillRunning(pids)).length === 0)
  })

test.run()
