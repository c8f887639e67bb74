import type { V1SelfSubjectAccessReview } from '@kubernetes/client-node'
import { csiDriverName } from '../../csi/driver.ts'
import type { Api } from '../client/api.ts'

/**
 * What whoever moves volumes may not do (config/mover.yaml): looked at first, as a move that may take a PV away and may make
 * none stops half way. `within`: the namespace of the claims; all of them where none is named.
 */
export async function findMissingRights(
  api: Pick<Api, 'send'>,
  { namespace, within }: { namespace: string; within: string | undefined },
): Promise<string[]> {
  const claimed = within === undefined ? {} : { namespace: within }
  const rights = [
    ...all(['get', 'list', 'create', 'patch', 'delete'], { resource: 'persistentvolumes' }),
    ...all(['get', 'patch'], { resource: 'persistentvolumeclaims', ...claimed }),
    ...all(['list'], { resource: 'pods', ...claimed }),
    ...all(['get'], { resource: 'nodes' }),
    ...all(['get'], { resource: 'csinodes', group: 'storage.k8s.io' }),
    ...all(['get'], { resource: 'csidrivers', group: 'storage.k8s.io', name: csiDriverName }),
    ...all(['get', 'list', 'create', 'patch', 'delete'], { resource: 'configmaps', namespace }),
  ]
  const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'
  const asked = rights.map(async (resourceAttributes) => {
    const body = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes },
    }
    const { status } = await api.send<V1SelfSubjectAccessReview>({ method: 'POST', path, body })
    const { verb, resource, namespace: where } = resourceAttributes
    return status?.allowed ? [] : [`${verb} ${resource}${where ? ` in namespace ${where}` : ''}`]
  })
  return (await Promise.all(asked)).flat()
}

interface Right {
  resource: string
  group?: string
  name?: string
  namespace?: string
}

const all = (verbs: readonly string[], right: Right) => verbs.map((verb) => ({ ...right, verb }))
