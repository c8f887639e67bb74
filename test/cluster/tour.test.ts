import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { type Cluster, withCluster } from './cluster.ts'
import { startContainerNode } from './containers.ts'
import { ensureBusyboxImage, ensureImage } from './image.ts'
import { enterOwnNetwork, ownAddress } from './network.ts'
import { isAsExpected, parseTranscript, type Step } from './transcript.ts'

enterOwnNetwork()

const root = join(import.meta.dirname, '../..')
/** The first of the cluster's service addresses is that of the API server. */
const serviceAddress = '10.0.0.1'
/** Follows the output of each command. */
const mark = '\u001e'
const test = suite('the tour')

test('isAsExpected() takes … for anything, and any columns for any', () => {
  assert.ok(isAsExpected('a   1\nb\nc\nd 22\n', ['a 1', '…', 'd …']))
  assert.ok(isAsExpected('', []))
  assert.not(isAsExpected('a\n', []))
  assert.not(isAsExpected('a\nb\n', ['a']))
  assert.not(isAsExpected('ab\n', ['a.']))
})

test(
  'each command of docs/tour.md says what stands there, on nodes with real containers; it has those of the README',
  withCluster({ address: ownAddress }, async (cluster, folder) => {
    const steps = parseTranscript(await readFile(join(root, 'docs/tour.md'), 'utf8'))
    assert.equal(await findMissing(steps), [])
    const images = [await ensureImage(), await ensureBusyboxImage()]
    const nodes = await Promise.all(
      ['node-1', 'node-2'].map((name) => startContainerNode(cluster, { name, images: images.slice(0, 1) })),
    )
    const gate = await serveApiAddress(cluster)
    try {
      for (const node of nodes)
        for (const [from, to] of [
          [images[0]?.name, 'registry.example.com/elastic-local:0.2.0'],
          [images[0]?.name, 'registry.example.com/elastic-local:0.2.1'],
          [images[1]?.name, 'docker.io/library/busybox:1.37'],
        ] as const)
          await node.run('ctr', '--namespace=k8s.io', 'images', 'tag', `docker.io/library/${from}`, to)
      try {
        await play(cluster, folder, steps)
      } catch (error) {
        const { stdout } = await cluster.kubectl(['get', 'events', '--all-namespaces', '--sort-by=.lastTimestamp'])
        process.stderr.write(stdout)
        throw error
      }
      assert.equal((await cluster.api.request('GET', '/api/v1/persistentvolumes')).items, [])
    } finally {
      gate.close()
      for (const node of nodes) await node.close()
    }
  }),
)

/** The commands of the README's part on clusters that are not in the tour. */
async function findMissing(steps: readonly Step[]): Promise<string[]> {
  const [, part = ''] = /^## In a cluster\n(.*?)^## /ms.exec(await readFile(join(root, 'README.md'), 'utf8')) ?? []
  const commands = [...part.matchAll(/^ {4}((?:kubectl|make deploy|make undeploy).*?)(?: +#.*)?$/gm)].map(
    ([, one = '']) => one,
  )
  assert.not.equal(commands, [])
  return commands.filter((one) => !steps.some(({ command }) => command.replace(' FROM=../my-cluster', '') === one))
}

/** Leads connections to the API server's service to it: the work of kube-proxy. */
async function serveApiAddress(cluster: Cluster) {
  await run('ip', ['address', 'add', `${serviceAddress}/32`, 'dev', 'lo'])
  const { hostname, port } = new URL(cluster.server)
  const server = createServer((incoming) => {
    const outgoing = connect(Number(port), hostname)
    incoming.pipe(outgoing).pipe(incoming)
    for (const [one, other] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const)
      one.on('error', () => other.destroy())
  })
  server.listen(443, serviceAddress)
  await once(server, 'listening')
  return server
}

/** Types the commands into one shell, in a copy of the project, until one says something else than it should. */
async function play(cluster: Cluster, folder: string, steps: readonly Step[]): Promise<void> {
  const bin = join(folder, 'bin')
  const home = join(folder, 'elastic-local')
  await mkdir(bin)
  await writeFile(join(bin, 'kubectl'), `#!/bin/sh\nexec ${cluster.program} kubectl "$@"\n`, { mode: 0o755 })
  await mkdir(home)
  for (const part of ['Makefile', 'config', 'deploy.yaml', 'kustomization.yaml'])
    await cp(join(root, part), join(home, part), { recursive: true })
  await symlink(join(root, 'dist/elastic-local'), join(bin, 'kubectl-elastic_local'))
  const env = {
    ...process.env,
    PATH: `${bin}:${process.env.PATH}`,
    KUBECONFIG: cluster.adminKubeconfig,
    MAKEFLAGS: '--silent',
  }
  const shell = spawn('bash', [], { cwd: home, env, stdio: ['pipe', 'pipe', 'inherit'] })
  shell.stdout.setEncoding('utf8')
  shell.stdin.write('exec 2>&1\n')
  try {
    for (const { command, expected } of steps) {
      shell.stdin.write(`${command}\nprintf '${mark}'\n`)
      let output = ''
      while (!output.endsWith(mark)) output += (await once(shell.stdout, 'data'))[0]
      output = output.slice(0, -mark.length)
      assert.ok(isAsExpected(output, expected), `$ ${command}\n${output}\nis not\n${expected.join('\n')}`)
    }
  } finally {
    shell.stdin.end()
    await once(shell, 'close')
  }
}

test.run()
