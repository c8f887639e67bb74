import type { V1Pod, V1Toleration } from '@kubernetes/client-node'
import type { Taint } from './node.ts'

/** What is needed of a pod that is to be scheduled. */
export interface PodFacts {
  namespace: string
  name: string
  /** Names of the claims that it uses, those that are made for it among them. */
  claims: readonly string[]
  tolerations: readonly V1Toleration[]
}

export function pickPod({ metadata, spec }: V1Pod): PodFacts {
  const { namespace = '', name = '' } = metadata ?? {}
  const claims = (spec?.volumes ?? []).map((volume) =>
    volume.ephemeral ? `${name}-${volume.name}` : volume.persistentVolumeClaim?.claimName,
  )
  const tolerations = spec?.tolerations ?? []
  return { namespace, name, claims: claims.filter((claim) => claim !== undefined), tolerations }
}

/** Whether the scheduler may place the pod where that taint is (ToleratesTaint in k8s.io/api/core/v1/toleration.go). */
export function tolerates({ tolerations }: Pick<PodFacts, 'tolerations'>, taint: Taint): boolean {
  return tolerations.some(({ key = '', operator = 'Equal', value = '', effect = '' }) => {
    if ((effect !== '' && effect !== taint.effect) || (key !== '' && key !== taint.key)) return false
    if (operator !== 'Equal') return true
    return key !== '' && value === (taint.value ?? '')
  })
}
