/**
 * A Kubernetes to play with: the real control plane, three nodes without containers, and elastic-local in it, with the
 * sample claim and pod. Stays until Ctrl-C, or with --once ends by itself.
 */
import { mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../../src/run.ts'
import { gibibyte } from './claim-objects.ts'
import { startCluster } from './cluster.ts'
import { findFreePorts } from './control-plane.ts'
import { Elastic, executable } from './elastic.ts'
import { atTermination } from './termination.ts'
import { givePageRights } from './viewer.ts'

const config = join(import.meta.dirname, '../../config')
const say = (text: string) => process.stdout.write(`${text}\n`)

const scratch = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-cluster-')))
atTermination(async () => {
  await rm(scratch, { recursive: true, force: true })
  say('\nNothing is left.')
})
say('Starting the control plane, three nodes, and elastic-local.')
const cluster = await startCluster({ folder: join(scratch, 'cluster') })
const elastic = new Elastic(cluster)
atTermination(() => elastic.close())
await elastic.applyObjects()
await givePageRights(cluster)
const page = `localhost:${(await findFreePorts(1, '127.0.0.1'))[0]}`
await elastic.startProvisioner({ page: 'true', 'http-address': page.replace('localhost', '127.0.0.1') })
for (const name of ['node-1', 'node-2', 'node-3']) await elastic.startNode({ name, diskBytes: 8 * gibibyte })

const kubectl = join(scratch, 'kubectl')
const environment = `KUBECONFIG='${cluster.adminKubeconfig}' PATH='${scratch}':"$PATH"`
const script = ['#!/bin/sh', `${environment} exec '${cluster.program}' kubectl "$@"`, '']
await writeFile(kubectl, script.join('\n'), { mode: 0o755 })
await symlink(executable, join(scratch, 'kubectl-elastic_local'))
const show = async (...args: string[]) => {
  say(`\n$ kubectl ${args.join(' ')}`)
  say((await run(kubectl, args)).stdout.trimEnd())
}
for (const file of ['pvc-sample.yaml', 'pod-sample.yaml']) {
  say(`\n$ kubectl apply -f config/${file}`)
  const input = await readFile(join(config, file), 'utf8')
  say((await cluster.kubectl(['apply', '--filename=-'], { input })).stdout.trimEnd())
}
await show('wait', '--for=jsonpath={.status.phase}=Running', 'pod/elastic-local-sample', '--timeout=600s')
await show('get', 'pods,persistentvolumeclaims,persistentvolumes')
await show('elastic_local', 'explain', 'pvc/elastic-local-sample')

// All went well, however it is told to end.
process.exitCode = 0
if (process.argv.includes('--once')) process.kill(process.pid, 'SIGTERM')
else
  say(`
The cluster runs until Ctrl-C. In another terminal, as root:

  ${kubectl} elastic_local explain pvc/elastic-local-sample
  ${kubectl} elastic_local pools
  ${kubectl} apply -f config/statefulset-sample.yaml
  ${kubectl} get pods --watch
  tail -F ${cluster.folder}/logs/*.log
  nsenter --mount --target ${process.pid} findmnt --list | grep pvc-

The page of nodes, pools and volumes is at http://${page}.
Pods run no containers here; everything else is real. Logs, data and sockets are in ${cluster.folder}.`)
await new Promise(() => setInterval(() => {}, 1 << 30))
