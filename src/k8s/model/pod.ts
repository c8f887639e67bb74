import type { V1Pod } from '@kubernetes/client-node'

/** What is needed of a pod that is to be scheduled. */
export interface PodFacts {
  namespace: string
  name: string
  /** Names of the claims that it uses, those that are made for it among them. */
  claims: readonly string[]
}

export function pickPod({ metadata, spec }: V1Pod): PodFacts {
  const { namespace = '', name = '' } = metadata ?? {}
  const claims = (spec?.volumes ?? []).map((volume) =>
    volume.ephemeral ? `${name}-${volume.name}` : volume.persistentVolumeClaim?.claimName,
  )
  return { namespace, name, claims: claims.filter((claim) => claim !== undefined) }
}
