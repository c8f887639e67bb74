import type { V1SelfSubjectAccessReview } from '@kubernetes/client-node'
import { csiDriverName } from '../../csi/driver.ts'
import type { Api } from '../client/api.ts'
import type { ProjectName } from '../model/origin.ts'
import { projects } from './projects.ts'

/**
 * What whoever moves volumes may not do (config/mover.yaml): looked at first, as a move that may take a PV away and may make
 * none stops half way. `within`: the namespace of the claims; all of them where none is named.
 */
export async function findMissingRights(
  api: Pick<Api, 'send'>,
  { namespace, within, from }: { namespace: string; within: string | undefined; from?: ProjectName },
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
    ...(from ? rightsToAdopt(from) : []),
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

function rightsToAdopt(from: ProjectName): (Right & { verb: string })[] {
  const { resource } = projects[from]
  return [
    ...all(['list'], { resource: 'nodes' }),
    ...all(['list'], { resource: 'volumeattachments', group: 'storage.k8s.io' }),
    ...(resource ? all(['get', 'list', 'patch', 'delete'], { resource: resource.plural, group: resource.group }) : []),
  ]
}

function all(verbs: readonly string[], right: Right): (Right & { verb: string })[] {
  return verbs.map((verb) => ({ ...right, verb }))
}
