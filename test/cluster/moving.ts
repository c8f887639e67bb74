/** Somebody who may move volumes and nothing else, and who can be killed at any request that changes something. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseAllDocuments } from 'yaml'
import { commandEnv } from '../../src/run.ts'
import type { KubeObject } from './api.ts'
import type { Cluster } from './cluster.ts'
import { executable, namespace } from './elastic.ts'
import { FaultyApi } from './faulty-api.ts'

const root = join(import.meta.dirname, '../..')

/** When the command is killed: at which request that changes something, counted from 1, and whether that is still done. */
export interface Kill {
  at: number
  isDone: boolean
}

export interface Moved {
  exitCode: number | null
  /** All that it said. */
  said: string
  /** What it changed, as far as it came. */
  changes: string[]
}

export interface PersonWhoMoves {
  /** Runs `kubectl-elastic_local volumes …`. `atChange`: called before each request that changes something. */
  run(args: readonly string[], how?: { kill?: Kill; atChange?: (count: number) => Promise<void> }): Promise<Moved>
  close(): void
}

/** Gives an account the rights of config/mover.yaml. */
export async function openMover(cluster: Cluster, folder: string): Promise<PersonWhoMoves> {
  const documents = parseAllDocuments(await readFile(join(root, 'config/mover.yaml'), 'utf8'))
  const [clusterRole, role] = documents.map((one) => one.toJS()) as [KubeObject, KubeObject]
  const subjects = [{ kind: 'ServiceAccount', name: 'mover', namespace: 'default' }]
  const bind = (kind: string, { apiVersion, kind: roleKind, metadata }: KubeObject, place: object) => ({
    apiVersion,
    kind,
    metadata: { name: 'mover', ...place },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: roleKind, name: metadata.name },
    subjects,
  })
  await cluster.apply(
    ...[clusterRole, role],
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'mover', namespace: 'default' } },
    bind('ClusterRoleBinding', clusterRole, {}),
    bind('RoleBinding', role, { namespace }),
  )
  const kubeconfig = await cluster.serviceAccountKubeconfig('default', 'mover')
  const api = await FaultyApi.start(cluster)
  await api.redirect(kubeconfig)
  const bin = join(folder, 'mover-bin')
  await mkdir(bin)
  const program = join(bin, 'kubectl-elastic_local')
  await symlink(executable, program)
  return {
    close: () => api.close(),
    run: async (args, { kill, atChange } = {}) => {
      const changes: string[] = []
      const child = spawn(program, ['volumes', ...args], { env: { ...commandEnv(), KUBECONFIG: kubeconfig } })
      const said = Promise.all([text(child.stdout), text(child.stderr)])
      api.plan = async ({ method, path }) => {
        if (method === 'GET' || path.includes('/authorization.k8s.io/')) return undefined
        // What was on its way when it died.
        if (child.killed) return kill?.isDone ? 'reply-lost' : 'silence'
        changes.push(`${method} ${path}`)
        await atChange?.(changes.length)
        if (changes.length !== kill?.at) return undefined
        child.kill('SIGKILL')
        return kill.isDone ? 'reply-lost' : 'silence'
      }
      const [exitCode] = await once(child, 'close')
      return { exitCode, said: (await said).join(''), changes }
    },
  }
}

/** The reasons of all warnings about a volume that is lost, orphaned, not made or removed, each once. */
export async function findLossesTold(cluster: Cluster): Promise<string[]> {
  const { items } = await cluster.api.request('GET', '/api/v1/events')
  const warnings: KubeObject[] = items.filter(({ type }: KubeObject) => type === 'Warning')
  const told = warnings.filter(({ reason }) => /Lost|Orphaned|NotMade|Removed|ProvisioningFailed/.test(reason))
  return [...new Set(told.map(({ reason }) => reason))]
}
