import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import type { FrontName } from '../../src/daemon/front.ts'
import { CommandError, run } from '../../src/run.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import { type Cluster, withCluster } from './cluster.ts'
import { type ContainerNode, flexPluginDir, startContainerNode } from './containers.ts'
import { type Overlay, overlayManifest } from './deploy-overlay.ts'
import { placeOf } from './front.ts'
import { ensureImage } from './image.ts'
import { enterOwnNetwork, ownAddress } from './network.ts'
import { poll } from './program.ts'

await enterOwnNetwork()

const root = join(import.meta.dirname, '../..')
const ofDaemon = ['--namespace=elastic-local', '--selector=app.kubernetes.io/component=daemon']
const test = suite('deploy.yaml with real containers')

test(
  'make deploy makes it ready; the sample pod writes, and when it comes again it reads its data; neither a rollout nor make undeploy disturbs it',
  withCluster({ address: ownAddress }, async (cluster, folder) => {
    const image = await ensureImage()
    const node = await startContainerNode(cluster, { name: 'node-1', images: [image] })
    try {
      const overlay = node.overlay(image)
      const make = await buildMake(cluster, folder, overlay)
      const rollout = (what: string) =>
        cluster.kubectl(['--namespace=elastic-local', 'rollout', 'status', what, '--timeout=600s'])
      await checkCreateVg(node, image.name, make)
      assert.match((await make('deploy', `IMAGE=${image.name}`)).stdout, /elastic-local is ready/)

      // What deploy.yaml says they serve, in the pod network.
      const { items: pods } = await cluster.api.request('GET', '/api/v1/namespaces/elastic-local/pods')
      assert.is(pods.length, 3)
      for (const { spec, status } of pods) {
        const { containerPort } = spec.containers[0].ports[0]
        for (const page of ['metrics', 'healthz', 'readyz'])
          assert.is((await fetch(`http://${status.podIP}:${containerPort}/${page}`)).status, 200, page)
      }

      const [pod] = (await cluster.kubectl(['get', 'pods', ...ofDaemon, '--output=name'])).stdout.split('\n')
      const doctor = await cluster.kubectl([
        'exec',
        String(pod),
        '--namespace=elastic-local',
        '--',
        'elastic-local',
        'doctor',
      ])
      assert.match(doctor.stdout, /flex driver .*is this version/)

      const busybox = { ...overlay, container: { ...overlay.container, image: 'busybox:test' } }
      const sample = async (file: string) =>
        overlayManifest(await readFile(join(root, 'config', file), 'utf8'), { ...busybox, env: {} })
      const pathOf = (name: string) => `/api/v1/namespaces/default/pods/${name}`
      const path = pathOf('elastic-local-sample')
      /** The pod runs before its shell has written. */
      const hasStarted = async (times: number, name = 'elastic-local-sample', by: FrontName = 'flex') => {
        const running = await cluster.waitFor(pathOf(name), (pod) => pod?.status?.phase === 'Running')
        const claimPath = `/api/v1/namespaces/default/persistentvolumeclaims/${name}`
        const { volumeName } = (await cluster.api.request('GET', claimPath)).spec
        const folder = `/var/lib/kubelet/pods/${running.metadata.uid}/${placeOf(volumeName, by)}`
        const text = async () => readFile(node.path(`${folder}/starts`), 'utf8').catch(() => '')
        await poll(async () => (await text()).split('\n').length - 1 === times, 10_000)
      }
      // The same by CSI, beside it.
      const csi = 'elastic-local-sample-csi'
      const csiSample = async (file: string) => {
        const text = JSON.stringify(await sample(file)).replaceAll('"elastic-local-sample"', `"${csi}"`)
        return JSON.parse(
          text.replaceAll('"storageClassName":"elastic-local"', '"storageClassName":"elastic-local-csi"'),
        )
      }
      await cluster.apply(...(await sample('pvc-sample.yaml')), ...(await sample('pod-sample.yaml')))
      await cluster.apply(...(await csiSample('pvc-sample.yaml')), ...(await csiSample('pod-sample.yaml')))
      await hasStarted(1)
      await hasStarted(1, csi, 'csi')

      await cluster.kubectl(['--namespace=elastic-local', 'rollout', 'restart', 'daemonset/elastic-local-daemon'])
      // Meanwhile one goes and comes again, which waits for the new daemon if it must.
      await cluster.kubectl(['delete', 'pod', csi, '--grace-period=1'])
      await cluster.apply(...(await csiSample('pod-sample.yaml')))
      await hasStarted(2, csi, 'csi')
      await rollout('daemonset/elastic-local-daemon')
      for (const name of ['elastic-local-sample', csi]) {
        const [status] = (await cluster.api.request('GET', pathOf(name))).status.containerStatuses
        assert.is(status.restartCount, 0)
      }
      await hasStarted(1)
      await hasStarted(2, csi, 'csi')
      await cluster.kubectl(['delete', 'pod', csi, '--grace-period=1'])
      await cluster.kubectl(['delete', 'pvc', csi])
      await cluster.waitFor('/api/v1/persistentvolumes', (list) => list?.items.length === 1)

      await cluster.kubectl(['delete', 'pod', 'elastic-local-sample', '--grace-period=1'])
      await cluster.apply(...(await sample('pod-sample.yaml')))
      await hasStarted(2)

      const refusal = await thrownBy(CommandError, () => make('undeploy'))
      assert.match(
        refusal.stderr,
        /has volumes:\s+VOLUME.*\s+pvc-\S+ +node-1 +1Gi +Delete +default\/elastic-local-sample/,
      )
      assert.ok(await cluster.get('daemonset/elastic-local-daemon', 'elastic-local'))

      const kept = (await make('undeploy', 'KEEP_VOLUMES=true')).stdout
      assert.match(kept, /- 1 PersistentVolumes? .*data/)
      assert.is(await cluster.get('namespace/elastic-local'), undefined)
      assert.is((await cluster.api.request('GET', path)).status.containerStatuses[0].restartCount, 0)
      await cluster.kubectl(['exec', 'elastic-local-sample', '--', 'sh', '-c', 'date >> /data/starts; sync'])
      await hasStarted(3)
      await cluster.kubectl(['delete', 'pod', 'elastic-local-sample', '--grace-period=1', '--wait=false'])

      await make('deploy', `IMAGE=${image.name}`)
      await cluster.waitFor(path, (pod) => pod === undefined)
      await cluster.apply(...(await sample('pod-sample.yaml')))
      await hasStarted(4)
      await cluster.kubectl(['delete', 'pod', 'elastic-local-sample', '--grace-period=1'])
      await cluster.kubectl(['delete', 'pvc', 'elastic-local-sample'])
      await cluster.waitFor('/api/v1/persistentvolumes', (list) => list?.items.length === 0)

      await cluster.apply(...(await sample('pvc-sample.yaml')))
      const told = (await make('undeploy')).stdout
      assert.match(told, 'kubectl delete pvc --namespace default elastic-local-sample')
      assert.match(told, `rm -r ${flexPluginDir}/volumes.k8s.elastic.co~elastic-local\n`)
      for (const file of ['/mnt/elastic-local-volumes', '/var/run/elastic-local', flexPluginDir]) {
        assert.match(told, file)
        await node.run('test', '-d', file)
      }
      const kinds = 'namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicies'
      const more = 'validatingadmissionpolicybindings,storageclasses,csidrivers,persistentvolumes,pods'
      const { stdout } = await cluster.kubectl(['get', '--all-namespaces', '--output=name', `${kinds},${more}`])
      assert.equal(
        stdout.split('\n').filter((name) => name.includes('elastic')),
        [],
      )
    } finally {
      await node.close()
    }
  }),
)

/** make create-vg makes a group of a blank disk of the node, and refuses the disk to another group. */
async function checkCreateVg(node: ContainerNode, image: string, make: Make) {
  await node.run('truncate', '--size', '64M', '/mnt/disk')
  const disk = (await node.run('losetup', '--find', '--show', '/mnt/disk')).stdout.trim()
  const group = `elastic-local-test-${process.pid}`
  const words = ['NODES=node-1', `IMAGE=${image}`, `DISKS=${disk}`, 'SIZE=64Mi']
  try {
    const made = await make('create-vg', ...words, `GROUP=${group}`)
    assert.match(made.stdout, `node-1: Created volume group ${group}.`)
    const refusal = await thrownBy(CommandError, () => make('create-vg', ...words, `GROUP=${group}-other`))
    assert.match(refusal.stdout, `node-1: elastic-local: Cannot use ${disk} as it is part of volume group ${group}.`)
    assert.match(refusal.stderr, 'Not made: node-1')
  } finally {
    await run('vgremove', ['--yes', group], { accept: [5] })
    await node.run('losetup', '--detach', disk)
  }
}

type Make = Awaited<ReturnType<typeof buildMake>>

/**
 * Gives make(1) with the cluster's kubectl, and the overlay as a kustomization to deploy. Loop images are what this
 * kernel can do.
 */
async function buildMake(cluster: Cluster, folder: string, { container, env }: Overlay) {
  const bin = join(folder, 'bin')
  const from = join(folder, 'overlay')
  await Promise.all([bin, from].map((path) => mkdir(path)))
  await writeFile(join(bin, 'kubectl'), `#!/bin/sh\nexec ${cluster.program} kubectl "$@"\n`, { mode: 0o755 })
  await symlink(root, join(folder, 'elastic-local'))
  const place = '/spec/template/spec/containers/0'
  const add = (path: string, value: unknown) => ({ op: 'add', path: `${place}/${path}`, value })
  const changes = [
    ...Object.entries(container ?? {}).map(([field, value]) => add(field, value)),
    ...Object.entries(env ?? {}).map(([name, value]) => add('env/-', { name, value })),
  ]
  const kustomization = {
    resources: ['../elastic-local'],
    components: ['../elastic-local/config/kustomize/loop'],
    patches: [{ target: { kind: 'DaemonSet|Deployment' }, patch: JSON.stringify(changes) }],
  }
  await writeFile(join(from, 'kustomization.yaml'), JSON.stringify(kustomization))
  const settings = [`PATH=${bin}:${process.env.PATH}`, `KUBECONFIG=${cluster.adminKubeconfig}`]
  return (target: string, ...words: string[]) =>
    run('env', [...settings, 'make', '--silent', '-C', root, target, `FROM=${from}`, ...words])
}

test.run()
