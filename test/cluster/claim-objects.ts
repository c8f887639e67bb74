/** Objects that tests of claims make, and what they look at. */

import { className, front, isFlex } from './front.ts'
import { buildPod } from './toy.ts'

export const gibibyte = 2 ** 30

export function claim(name: string, more: { class?: string; size?: string; spec?: object } = {}) {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, namespace: 'default' },
    spec: {
      storageClassName: more.class ?? className,
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: more.size ?? '512Mi' } },
      ...more.spec,
    },
  }
}

/** A pod with claims, each a volume of the claim's name. */
export function pod(name: string, claims: readonly string[], more: { volumes?: object[]; spec?: object } = {}) {
  const volumes = [
    ...claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } })),
    ...(more.volumes ?? []),
  ] as { name: string }[]
  return buildPod(name, volumes, { terminationGracePeriodSeconds: 1, ...more.spec })
}

export function storageClass(
  name: string,
  { parameters = {}, ...more }: { parameters?: object; [field: string]: unknown } = {},
) {
  const all = { ...(isFlex ? {} : { front }), ...parameters }
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name },
    provisioner: 'elastic-local.volumes.k8s.elastic.co',
    volumeBindingMode: 'WaitForFirstConsumer',
    allowVolumeExpansion: true,
    ...(Object.keys(all).length > 0 ? { parameters: all } : {}),
    ...more,
  }
}

/** A class that makes volumes on one node, at once. */
export const classOn = (node: string) =>
  storageClass(`on-${node}`, {
    volumeBindingMode: 'Immediate',
    allowedTopologies: [{ matchLabelExpressions: [{ key: 'kubernetes.io/hostname', values: [node] }] }],
  })
