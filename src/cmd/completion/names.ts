/** Names that completion offers, asked of the cluster or of the daemon. Each throws when nobody answers. */
import type { KubernetesObject } from '@kubernetes/client-node'
import { buildDaemonKeeper } from '../../inspect/keeper.ts'
import type { Completer } from '../flags.ts'

/** Nobody waits longer for a Tab. */
const patienceMs = 2000

/** Of the volumes of this node that the line does not name yet. */
export const completeVolumes: Completer = async ({ flags, args }) => {
  if (typeof flags.socket !== 'string') return []
  const volumes = await buildDaemonKeeper(flags.socket, { idleTimeoutMs: patienceMs }).list()
  return volumes.map(({ name }) => name).filter((name) => !args.includes(name))
}

/** The same where a command takes one name and then something else. */
export const completeVolume: Completer = async (line) => (line.args.length === 0 ? await completeVolumes(line) : [])

export const completeContexts: Completer = async ({ flags }) => {
  const { readKubeConfig } = await import('../../k8s/client/api.ts')
  return readKubeConfig(textOf(flags.kubeconfig), { asKubectl: true })
    .getContexts()
    .map(({ name }) => name)
}

export const completeNamespaces: Completer = async ({ flags }) => await list(flags, () => '/api/v1/namespaces')

/** Where the names of a kind are; `in` is a namespace's own part of the path. */
const paths: Record<string, (within: string) => string> = {
  pvc: (within) => `/api/v1/${within}/persistentvolumeclaims`,
  pod: (within) => `/api/v1/${within}/pods`,
  pv: () => '/api/v1/persistentvolumes',
  deployment: (within) => `/apis/apps/v1/${within}/deployments`,
  statefulset: (within) => `/apis/apps/v1/${within}/statefulsets`,
}

/** What `explain` takes: claims, and other kinds by their kind, as a word of its own or before a slash. */
export const completeSubjects: Completer = async ({ flags, args, begun }) => {
  const [kind = '', name] = begun.split('/')
  const named = async (kind: string) => {
    const path = Object.hasOwn(paths, kind) ? paths[kind] : undefined
    return path ? await list(flags, path, kind === 'pv') : []
  }
  if (args.length > 1) return []
  if (args[0] !== undefined) return await named(args[0])
  if (name !== undefined) return (await named(kind)).map((one) => `${kind}/${one}`)
  const kinds = Object.keys(paths).map((one) => `${one}/`)
  return [...(await named('pvc').catch(() => [])), ...kinds]
}

/** `isOurs`: only what has the label of our PersistentVolumes. */
async function list(
  flags: Readonly<Record<string, unknown>>,
  pathIn: (within: string) => string,
  isOurs = false,
): Promise<string[]> {
  const { ApiClient, findKubeConfig, listPages } = await import('../../k8s/client/api.ts')
  const { nodeLabel } = await import('../../k8s/model/names.ts')
  const config = findKubeConfig(textOf(flags.kubeconfig), { context: textOf(flags.context), asKubectl: true })
  const own = config.getContextObject(config.getCurrentContext())?.namespace
  const path = pathIn(`namespaces/${textOf(flags.namespace) ?? own ?? 'default'}`)
  const names: string[] = []
  const query = isOurs ? { labelSelector: nodeLabel } : {}
  for await (const { items } of listPages<KubernetesObject>(new ApiClient(config), path, query))
    for (const { metadata } of items) names.push(metadata?.name ?? '')
  return names
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
