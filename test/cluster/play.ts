/**
 * A Kubernetes to play with: the real control plane, three nodes without containers, and elastic-local in it, with the
 * sample claim and pod. Stays until Ctrl-C, or with --once cleans up at once.
 */
import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gibibyte } from './claim-objects.ts'
import { startCluster } from './cluster.ts'
import { Elastic } from './elastic.ts'
import { atTermination } from './termination.ts'

const config = join(import.meta.dirname, '../../config')
const say = (text: string) => process.stdout.write(`${text}\n`)

const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-cluster-')))
const removeScratch = () => rm(scratch, { recursive: true, force: true })
atTermination(removeScratch)
say('Starting the control plane, three nodes, and elastic-local.')
const cluster = await startCluster({ folder: join(scratch, 'cluster') })
const elastic = new Elastic(cluster)
const forget = atTermination(() => elastic.close())
await elastic.applyObjects()
await elastic.startProvisioner()
for (const name of ['node-1', 'node-2', 'node-3']) await elastic.startNode({ name, diskBytes: 8 * gibibyte })

const kubectl = join(scratch, 'kubectl')
const script = ['#!/bin/sh', `KUBECONFIG='${cluster.adminKubeconfig}' exec '${cluster.program}' kubectl "$@"`, '']
await writeFile(kubectl, script.join('\n'), { mode: 0o755 })
const show = async (...args: string[]) => {
  say(`\n$ kubectl ${args.join(' ')}`)
  say((await cluster.kubectl(args)).stdout.trimEnd())
}
for (const file of ['pvc-sample.yaml', 'pod-sample.yaml']) {
  say(`\n$ kubectl apply -f config/${file}`)
  const input = await readFile(join(config, file), 'utf8')
  say((await cluster.kubectl(['apply', '--filename=-'], { input })).stdout.trimEnd())
}
await show('wait', '--for=jsonpath={.status.phase}=Running', 'pod/elastic-local-sample', '--timeout=600s')
await show('get', 'pods,persistentvolumeclaims,persistentvolumes')
await show('get', 'configmaps,csistoragecapacities', '--namespace=elastic-local')

if (process.argv.includes('--once')) {
  await elastic.close()
  forget()
  await removeScratch()
  say('\nNothing is left.')
} else {
  say(`
The cluster goes on until Ctrl-C. In another terminal, as root:

  ${kubectl} get pods --watch
  ${kubectl} apply -f config/statefulset-sample.yaml
  tail -F ${cluster.folder}/logs/*.log
  nsenter --mount --target ${process.pid} findmnt --list | grep pvc-

Pods run no containers here; all else is real. Logs, data and sockets are in ${cluster.folder}.`)
  await new Promise(() => setInterval(() => {}, 1 << 30))
}
