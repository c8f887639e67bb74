import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { json } from 'node:stream/consumers'
import type { V1SelfSubjectAccessReview } from '@kubernetes/client-node'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { claim } from '../../test/cluster/claim-objects.ts'
import { buildForeign, foreignLabels } from '../../test/foreign.ts'
import { claimsPath, configMapsPath, volumesPath } from '../../test/memory-cluster.ts'
import { ago, nodePath, World } from '../../test/overview-world.ts'
import { suite } from '../../test/suite.ts'
import { ApiError, type ApiRequest } from '../k8s/client/api.ts'
import { moveName } from '../k8s/model/names.ts'
import { runCli } from './cli.ts'

const test = suite('kubectl elastic_local')
// The tests may be run on a terminal.
process.env.NO_COLOR = '1'

let world: World
let folder = ''
let server: Server

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'elastic-local-kubectl-'))
  // The cluster in memory, as an API server that programs can reach.
  server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://server')
    try {
      const query = Object.fromEntries(searchParams)
      const method = (request.method ?? 'GET') as ApiRequest['method']
      const body = method === 'GET' ? undefined : await json(request)
      const refused = world.server.policy({ method, path: pathname, body })
      if (refused) throw new ApiError('no', { status: refused })
      if (pathname.endsWith('/selfsubjectaccessreviews')) {
        const { resource, verb } = (body as V1SelfSubjectAccessReview).spec.resourceAttributes ?? {}
        const allowed = !world.server.policy({ method: 'DELETE', path: `/rights/${verb}/${resource}` })
        return response.end(JSON.stringify({ status: { allowed } }))
      }
      response.end(JSON.stringify(world.server.carryOut({ method, path: pathname, query, body })))
    } catch (error) {
      response.writeHead(error instanceof ApiError ? error.status : 500).end('{"message":"refused"}')
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const contexts = ['default', 'shop'].map((name) => ({
    name,
    context: { cluster: 'memory', user: 'nobody', ...(name === 'shop' ? { namespace: 'shop' } : {}) },
  }))
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'memory', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'nobody', user: {} }],
    contexts,
    'current-context': 'default',
  }
  await writeFile(join(folder, 'config'), JSON.stringify(config))
})

test.before.each(() => {
  world = new World()
  const lately = new Date(Date.now()).toISOString()
  world.lead(lately)
  for (const node of ['node-1', 'node-2']) world.hear(node, lately)
})

test.after(async () => {
  server.close()
  server.closeAllConnections()
  await rm(folder, { recursive: true })
})

async function plugin(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const line = [...args, '--kubeconfig', join(folder, 'config')]
  const streams = { stdout: stdout as never, stderr: stderr as never }
  const exitCode = await runCli(line, { called: 'kubectl-elastic_local', env: {}, ...streams })
  return { exitCode, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') }
}

test('volumes are those of a namespace, or all', async () => {
  world.addBound('data', 'node-1')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  world.server.create('/api/v1/namespaces/shop/persistentvolumeclaims', {
    metadata: { name: 'orders' },
    spec: { storageClassName: 'elastic-local', resources: { requests: { storage: '1Gi' } } },
  })
  assert.match(
    (await plugin('volumes')).out,
    /^CLAIM +STATE +SIZE +NODE +PODS +AGE\ndata +ready +512 MiB +node-1 +web +\S+\n$/,
  )
  for (const more of [['-n', 'shop'], ['--context', 'shop'], ['-nshop'], ['--namespace=shop']])
    assert.match((await plugin('volumes', ...more)).out, /^CLAIM.*\norders +pending +1 GiB +- +- +\S+\n$/)
  assert.match((await plugin('volumes', '-A')).out, /^NAMESPACE +CLAIM.*\ndefault +data .*\nshop +orders .*\n$/)
  assert.match(
    (await plugin('volumes', '-A', '-o', 'wide')).out,
    /VOLUME +CLASS +FRONT +FS +RECLAIM\n.* pvc-\S+ +elastic-local +flex +ext4 +Delete\n/,
  )
  const { volumes, notRead } = JSON.parse((await plugin('volumes', '-o', 'json')).out)
  assert.equal([volumes.length, volumes[0].sizeBytes, notRead], [1, '536870912', []])
  assert.equal(parse((await plugin('volumes', '-o', 'yaml')).out).volumes, volumes)
})

test('lists are selected by labels, sorted, named, bare, and asked by JSONPath', async () => {
  for (const [name, tier] of [
    ['data', 'db'],
    ['logs', 'web'],
  ] as const) {
    world.addBound(name, 'node-1')
    world.server.change(`${claimsPath}/${name}`, { metadata: { labels: { tier } } })
  }
  world.server.change(nodePath('node-2'), { metadata: { labels: { rack: 'b' } } })
  const names = ['-o', 'name'] as const
  assert.is((await plugin('volumes', ...names)).out, 'persistentvolumeclaim/data\npersistentvolumeclaim/logs\n')
  assert.is((await plugin('volumes', '-l', 'tier=db', ...names)).out, 'persistentvolumeclaim/data\n')
  assert.is((await plugin('volumes', '-A', '--selector=tier!=db', ...names)).out, 'persistentvolumeclaim/logs\n')
  assert.is((await plugin('nodes', '-l', 'rack=b', ...names)).out, 'node/node-2\n')
  assert.is((await plugin('pools', '-l', 'rack=b', ...names)).out, 'node-2/vg\n')
  assert.match((await plugin('volumes', '--no-headers')).out, /^data +ready .*\nlogs +ready .*\n$/)
  assert.is((await plugin('pools', '--sort-by', '.freeBytes', '-o', 'jsonpath={.pools[*].node}')).out, 'node-1 node-2')
  const wrong = await plugin('volumes', '-o', 'jsonpath={.volumes')
  assert.is(wrong.exitCode, 2)
  assert.match(wrong.err, /Cannot use the JSONPath \{\.volumes: each \{ must have its \}/)
  assert.match((await plugin('pools', '-o', 'wide')).out, /VOLUMES +UNIT +FRONTS\n.* 1 B +flex\n|UNIT +FRONTS\n.*flex/)
})

test('pools and nodes are shown, and below them what is wrong', async () => {
  world.addBound('data', 'node-1')
  world.server.change(nodePath('node-2'), { spec: { unschedulable: true } })
  world.removeDaemon('node-2')
  const nodes = await plugin('nodes')
  assert.match(
    nodes.out,
    /^NAME +STATE +DAEMON +POOL +VOLUMES\nnode-1 +ready +ready +vg +1\nnode-2 +ready, cordoned +missing +vg +0\n/,
  )
  assert.match(nodes.out, /\n! node-2: there is no elastic-local daemon/)
  const pools = await plugin('pools')
  assert.match(
    pools.out,
    /^NODE +POOL +KIND +SIZE +ALLOCATED +FREE +ALLOC% +VOLUMES\nnode-1 +vg +LVM +10 GiB +512 MiB +9\.5 GiB +5% +1\n/,
  )
  assert.is(JSON.parse((await plugin('pools', '-o', 'json')).out).pools[0].allocatedBytes, '536870912')
})

test('explain takes the ways in which kubectl names things, and exits with 1 when a link fails', async () => {
  const volume = world.addBound('data', 'node-1')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  for (const what of [
    ['data'],
    ['pvc/data'],
    ['claim', 'data'],
    ['pod/web'],
    ['po', 'web'],
    [volume],
    [`pv/${volume}`],
  ]) {
    const { exitCode, out, err } = await plugin('explain', ...what)
    assert.is(exitCode, 0, err)
    assert.match(
      out,
      new RegExp(`^claim default/data, volume ${volume}, node node-1\nOK +claim +default/data wants 512 MiB\n`),
    )
    assert.match(out, /\nOK +mount +in web\nOK +pod +web runs\n$/)
  }
  assert.match((await plugin('explain', `pv/${volume}`, '-n', 'shop')).out, /^claim default\/data/)
  world.addClaim('many', { spec: { accessModes: ['ReadWriteMany'] } })
  const { exitCode, out } = await plugin('explain', 'many')
  assert.is(exitCode, 1)
  assert.match(
    out,
    /^claim default\/many\nFAIL +claim +Cannot create a volume.*\n +→ A claim cannot be changed.*\n- +not reached +class, scheduling, reservation, .*, pod\n$/,
  )
})

test('explain answers for what has pods: each claim of theirs once', async () => {
  for (const [name, kind, owner] of [
    ['web-5f7-abc', 'ReplicaSet', 'web-5f7'],
    ['web-5f7-def', 'ReplicaSet', 'web-5f7'],
    ['db-0', 'StatefulSet', 'db'],
  ] as const) {
    const claim = kind === 'ReplicaSet' ? 'shared' : 'data-db-0'
    if (!world.server.find(`${claimsPath}/${claim}`)) world.addBound(claim, 'node-1')
    const labels = { 'pod-template-hash': '5f7' }
    const ownerReferences = [{ kind, name: owner, controller: true }]
    world.addPod(name, { claims: [claim], node: 'node-1', phase: 'Running', metadata: { labels, ownerReferences } })
  }
  for (const [what, claims] of [
    ['deployment/web', 'shared'],
    ['deploy/web', 'shared'],
    ['deployment.apps/web', 'shared'],
    ['rs/web-5f7', 'shared'],
    ['StatefulSet/db', 'data-db-0'],
  ] as const) {
    const { exitCode, out, err } = await plugin('explain', what, '-o', 'jsonpath={.chains[*].claim.name}')
    assert.equal([exitCode, out], [0, claims], `${what}: ${err}`)
  }
})

test('contexts, namespaces, claims, pods, volumes and what has pods are completed', async () => {
  const volume = world.addBound('data', 'node-1')
  world.addPod('web-0', { claims: ['data'] })
  world.server.create('/api/v1/namespaces', { metadata: { name: 'shop' } })
  world.server.create('/apis/apps/v1/namespaces/default/statefulsets', { metadata: { name: 'web' } })
  const offered = async (command: string, ...words: string[]) => {
    const stdout = new PassThrough()
    const line = ['__complete', command, '--kubeconfig', join(folder, 'config'), ...words]
    await runCli(line, { called: 'kubectl-elastic_local', env: {}, stdout: stdout as never, stderr: stdout as never })
    return String(stdout.read()).trim().split('\n')
  }
  assert.equal(await offered('explain', ''), ['data', 'pvc/', 'pod/', 'pv/', 'deployment/', 'statefulset/', ':4'])
  assert.equal(await offered('explain', 'stat'), ['statefulset/', ':6'])
  for (const [begun, whole] of [
    ['pvc/', 'pvc/data'],
    ['pod/w', 'pod/web-0'],
    ['pv/', `pv/${volume}`],
    ['statefulset/', 'statefulset/web'],
  ] as const)
    assert.equal(await offered('explain', begun), [whole, ':4'])
  assert.equal(await offered('explain', 'pod', ''), ['web-0', ':4'])
  assert.equal(await offered('explain', '-n', 'shop', 'pod/'), [':4'])
  assert.equal(await offered('volumes', '--context', ''), ['default', 'shop', ':4'])
  assert.equal(await offered('volumes', '-n', ''), ['shop', ':4'])
  world.server.policy = () => 403
  assert.equal(await offered('volumes', '-n', ''), [':4'])
})

test('explain says what it cannot find, and what it cannot take', async () => {
  world.addClaim('both')
  world.addPod('both', { claims: ['both'] })
  assert.match((await plugin('explain', 'both')).out, /^claim default\/both\n/)
  for (const [args, code, message] of [
    [['none'], 1, /^kubectl elastic_local: Cannot find a claim or pod none in namespace default/],
    [
      ['node/x'],
      2,
      /Cannot explain "node" as it must be pvc, pod, pv, .*job\. "kubectl elastic_local nodes" shows it\./,
    ],
    [['svc/x'], 2, /Cannot explain "svc" as .* Name the claim, pod or volume/],
    [
      ['deployment/x'],
      1,
      /Cannot find a pod of deployment\/x in namespace default: see "kubectl describe deployment\/x/,
    ],
    [['a', 'b', 'c'], 2, /must be: kubectl elastic_local explain <claim\|pod\|volume\|workload> \[name\]/],
  ] as const) {
    const { exitCode, out, err } = await plugin('explain', ...args)
    assert.is(exitCode, code, err)
    assert.is(out, '')
    assert.match(err, message)
  }
})

test('doctor says that all is well, or what is not, and exits with 1 for a failure', async () => {
  world.addBound('data', 'node-1')
  const well = await plugin('doctor')
  assert.is(well.exitCode, 0, well.out)
  assert.match(well.out, /\nNo problems found\.\n$/)
  world.lead(ago(24 * 3600))
  const { exitCode, out } = await plugin('doctor')
  assert.is(exitCode, 1)
  assert.match(out, /^FAIL +provisioner +no provisioner is running/)
  const { findings } = JSON.parse((await plugin('doctor', '-o', 'json')).out)
  assert.equal([findings[0].check, findings[0].status], ['provisioner', 'fail'])
})

test('volumes are moved by name, of a namespace, or of all, and what is not moved is said', async () => {
  const volume = world.addBound('data', 'node-1')
  world.addBound('used', 'node-1')
  world.addPod('web', { claims: ['used'], node: 'node-1', phase: 'Running' })
  const looked = await plugin('volumes', 'move-to-csi', '--all', '--dry-run')
  assert.is(looked.exitCode, 1)
  assert.match(looked.out, new RegExp(`^Would move default/data \\(${volume}\\)\\.$`, 'm'))
  assert.match(looked.out, /^Would not move default\/used, as pod web uses it: stop it first, or use --in-use/m)
  assert.match(looked.out, /^1 of 2 would be moved\.\n$/m)
  assert.is((await plugin('volumes', 'move-to-csi', 'data', '--dry-run')).exitCode, 0)
  // It is there already.
  const back = await plugin('volumes', 'move-to-flex', 'data')
  assert.equal([back.exitCode, back.out], [0, 'default/data is already on FlexVolume.\n1 of 1 is on FlexVolume.\n'])
  const all = await plugin('volumes', 'move-to-flex', '-A')
  assert.equal([all.exitCode, all.out], [0, 'Nothing to move: there are no volumes of CSI.\n'])
  const refused = await plugin('volumes', 'move-to-csi', 'used')
  assert.is(refused.exitCode, 1)
  assert.match(refused.out, /^Did not move default\/used, as pod web uses it.*\n0 of 1 is on CSI\.\n$/)
})

test('volumes of another project are adopted by name, of a namespace, or of all, and what is not is said', async () => {
  const { server } = world
  server.change('/api/v1/nodes/node-1', { metadata: { labels: foreignLabels('node-1') } })
  world.addBound('ours', 'node-1', 'csi')
  const { metadata } = server.create(claimsPath, claim('data', { size: '64Mi', class: 'topolvm-provisioner' }))
  const { volume, resource } = buildForeign('topolvm', {
    claim: { namespace: 'default', name: 'data', uid: metadata.uid },
    ...{ node: 'node-1', hostname: 'host-node-1', size: '64Mi', place: 'vg' },
  })
  if (resource) server.create(resource.path, resource.object)
  const { name } = server.create(volumesPath, { ...volume, status: { phase: 'Bound' } }).metadata
  const bound = { phase: 'Bound', capacity: { storage: '64Mi' } }
  server.change(`${claimsPath}/data`, { spec: { volumeName: name }, status: bound })
  const looked = await plugin('volumes', 'adopt', '--from', 'topolvm', '-A', '--dry-run')
  assert.equal([looked.exitCode, looked.out], [0, `Would adopt default/data (${name}).\n1 of 1 would be adopted.\n`])
  const none = await plugin('volumes', 'adopt', '--from', 'local-path', '-A')
  assert.equal([none.exitCode, none.out], [0, 'Nothing to adopt: there are no volumes of local-path-provisioner.\n'])
  const ours = await plugin('volumes', 'adopt', '--from', 'topolvm', 'ours')
  assert.equal([ours.exitCode, ours.out], [0, 'default/ours is already ours.\n1 of 1 is ours.\n'])
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  const refused = await plugin('volumes', 'adopt', '--from', 'topolvm', 'data')
  assert.is(refused.exitCode, 1)
  assert.is(refused.out, 'Did not adopt default/data, as pod web uses it: stop it first.\n0 of 1 is ours.\n')
  server.delete('/api/v1/namespaces/default/pods/web')
  // Somebody who can go no further than to begin.
  server.policy = ({ method }) => (method === 'PATCH' ? 422 : undefined)
  const { err } = await plugin('volumes', 'adopt', '--from', 'topolvm', 'data')
  assert.match(err, /default\/data: Cannot finish the move of pvc-.* Its record is kept: run the command again\./)
  server.policy = () => undefined
  assert.match((await plugin('doctor')).out, /volumes adopt --from=topolvm data --namespace=default/)
  for (const [args, code, message] of [
    [['data'], 2, /whose volumes to adopt: use --from <project>/],
    [['data', '--from', 'nfs'], 2, /it must be .*topolvm.*local-path/],
    [['--from', 'topolvm'], 2, /what to adopt: name claims/],
    [
      ['none', '--from', 'topolvm'],
      1,
      /Cannot adopt claim default\/none as there is no PersistentVolume of TopoLVM, or of ours/,
    ],
  ] as const) {
    const wrong = await plugin('volumes', 'adopt', ...args)
    assert.is(wrong.exitCode, code, wrong.err)
    assert.match(wrong.err, message)
  }
  server.policy = ({ path }) => (/^\/rights\/delete\/logicalvolumes$/.test(path) ? 403 : undefined)
  const forbidden = await plugin('volumes', 'adopt', '--from', 'topolvm', 'data')
  assert.match(forbidden.err, /Cannot adopt volumes as you may not: delete logicalvolumes\. config\/mover\.yaml grants/)
})

test('a move says what it cannot find, take, or may not do', async () => {
  world.addBound('data', 'node-1')
  for (const [args, code, message] of [
    [['move-to-csi'], 2, /name claims, or use --all/],
    [['move-to-csi', 'data', '-A'], 2, /name claims, or use --all/],
    [['move-to-csi', '-A', '-n', 'shop'], 2, /leave out --namespace, or -A/],
    [['move-to-nfs', 'data'], 2, /There is no command volumes move-to-nfs/],
    [['move-to-csi', 'none'], 1, /Cannot move claim default\/none as there is no PersistentVolume of ours/],
    [['move-to-csi', 'data', '-n', 'shop'], 1, /Cannot move claim shop\/data/],
  ] as const) {
    const { exitCode, err } = await plugin('volumes', ...args)
    assert.is(exitCode, code, err)
    assert.match(err, message)
  }
  world.server.policy = ({ path }) => (/^\/rights\/(create|delete)\/persistentvolumes$/.test(path) ? 403 : undefined)
  assert.match(
    (await plugin('volumes', 'move-to-csi', 'data')).err,
    /you may not: create persistentvolumes, delete persistentvolumes\. config\/mover\.yaml/,
  )
})

test('a move that was begun is told of, and gone on with; a record that is none is told of', async () => {
  const volume = world.addBound('data', 'node-1')
  assert.match(
    (await plugin('doctor')).out,
    /fronts +0 by CSI, 1 left on FlexVolume; "kubectl elastic_local volumes move-to-csi"/,
  )
  // Somebody who can go no further than to begin.
  world.server.policy = ({ method }) => (method === 'PATCH' ? 422 : undefined)
  const { exitCode, err } = await plugin('volumes', 'move-to-csi', 'data')
  assert.is(exitCode, 1)
  assert.match(err, /default\/data: Cannot finish the move of pvc-.* Its record is kept: run the command again\./)
  world.server.policy = () => undefined
  assert.match(
    (await plugin('doctor')).out,
    /WARN +move of default\/data .* to csi was started .*\n.*move-to-csi data --namespace=default/,
  )
  assert.match(
    (await plugin('volumes', 'move-to-csi', '--all', '--dry-run')).out,
    /^Would continue with default\/data, started 20/m,
  )
  world.server.change(`${claimsPath}/data`, { status: { phase: 'Lost' } })
  assert.match(
    (await plugin('explain', 'data')).out,
    /FAIL +claim +it is Lost while pvc-\S+ is moved to csi\n.*move-to-csi data --namespace=default/,
  )
  world.server.change(`${configMapsPath}/${moveName(volume)}`, { data: { persistentVolume: '{}' } })
  const { exitCode: found, out } = await plugin('doctor')
  assert.is(found, 1)
  assert.match(out, /FAIL +moves +Cannot continue the move in ConfigMap elastic-local\/elastic-local-move\./)
  assert.match((await plugin('volumes', 'move-to-flex', '--all')).err, /Nothing was done/)
  assert.ok(world.server.find(`${volumesPath}/${volume}`)?.spec.flexVolume)
})

test('what may not be read is said beside the answer, and is in the document', async () => {
  world.addBound('data', 'node-1')
  world.server.policy = ({ path }) =>
    path === `${claimsPath.replace('persistentvolumeclaims', 'pods')}` ? 403 : undefined
  const { exitCode, out } = await plugin('volumes')
  assert.is(exitCode, 0)
  assert.match(out, /\ndata +ready/)
  assert.is(JSON.parse((await plugin('volumes', '-o', 'json')).out).notRead[0].kind, 'pods')
})

test('an API server that is not there, and a context that is not, are one line', async () => {
  world.server.policy = () => 500
  assert.match((await plugin('nodes')).err, /^kubectl elastic_local: GET .* was refused \(500\)/)
  const { exitCode, err } = await plugin('nodes', '--context', 'none')
  assert.is(exitCode, 1)
  assert.match(err, /^kubectl elastic_local: Cannot use context none as the kubeconfig has none of that name\.\n$/)
})

test('its help, its version and its words of error are those of a plugin', async () => {
  assert.match((await plugin()).err, /There is no command before the flag --kubeconfig/)
  const help = await plugin('help', 'explain')
  assert.match(help.out, /^Usage: kubectl elastic_local explain/m)
  assert.is((await plugin('version')).err.includes('There is no flag --kubeconfig'), true)
  assert.match((await plugin('pool')).err, /^kubectl elastic_local: There is no command pool\. Did you mean pools\?/)
  assert.match((await plugin('volumes', '--offline')).err, /See kubectl elastic_local help volumes/)
})

test.run()
