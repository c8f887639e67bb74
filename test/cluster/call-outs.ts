/** What a kubelet asks of a node's daemon, by the front of this run, asked without one. */
import { join } from 'node:path'
import { csiSocket } from '../../src/csi/driver.ts'
import { Node } from '../../src/csi/proto/csi_pb.ts'
import { callService } from '../csi-client.ts'
import type { Cluster } from './cluster.ts'
import { isFlex, placeOf } from './front.ts'
import type { HollowKubelet } from './kubelet.ts'
import { runWithInput } from './program.ts'

const driver = 'volumes.k8s.elastic.co~elastic-local'

/** How a call ended: with `Success`, or with what was said. */
export type Ended = string

export interface CallOuts {
  /** Where pods have the volume in their folders. */
  targetOf(podUid: string): string
  mount(podUid: string, options?: { readOnly?: boolean; key?: string }): Promise<Ended>
  unmount(podUid: string): Promise<Ended>
}

/** The calls about a volume, for pods of that name in namespace default; its PV is looked at now. */
export async function callOutsFor(
  cluster: Cluster,
  kubelet: HollowKubelet,
  volume: string,
  podName: string,
): Promise<CallOuts> {
  const { spec } = await cluster.api.request('GET', `/api/v1/persistentvolumes/${volume}`)
  const targetOf = (podUid: string) => join(kubelet.rootDir, 'pods', podUid, placeOf(volume))
  if (isFlex) {
    const call = async (...args: string[]): Promise<Ended> => {
      const { stdout } = await runWithInput(join(kubelet.pluginDir, driver, 'elastic-local'), args, { accept: [1] })
      const { status, message } = JSON.parse(stdout) as { status: string; message?: string }
      return status === 'Success' ? status : String(message)
    }
    return {
      targetOf,
      mount: (podUid, { readOnly = false, key } = {}) =>
        call(
          'mount',
          targetOf(podUid),
          JSON.stringify({
            ...spec.flexVolume.options,
            ...(key === undefined ? {} : { key }),
            'kubernetes.io/fsType': spec.flexVolume.fsType,
            'kubernetes.io/pvOrVolumeName': volume,
            'kubernetes.io/readwrite': readOnly ? 'ro' : 'rw',
            'kubernetes.io/pod.name': podName,
            'kubernetes.io/pod.namespace': 'default',
          }),
        ),
      unmount: (podUid) => call('unmount', targetOf(podUid)),
    }
  }
  const call = async (work: (node: ReturnType<typeof callService<typeof Node>>['calls']) => Promise<unknown>) => {
    const { calls, client } = callService(csiSocket(kubelet.rootDir), Node)
    try {
      await work(calls)
      return 'Success'
    } catch (error) {
      return String((error as { details?: string }).details ?? error)
    } finally {
      client.close()
    }
  }
  const volumeId = spec.csi.volumeHandle as string
  return {
    targetOf,
    mount: (podUid, { readOnly = false } = {}) =>
      call((node) =>
        node.nodePublishVolume({
          volumeId,
          targetPath: targetOf(podUid),
          readonly: readOnly,
          volumeCapability: {
            accessType: {
              case: 'mount',
              value: { fsType: spec.csi.fsType ?? '', mountFlags: spec.mountOptions ?? [] },
            },
            accessMode: { mode: 7 },
          },
          volumeContext: {
            ...spec.csi.volumeAttributes,
            'csi.storage.k8s.io/pod.name': podName,
            'csi.storage.k8s.io/pod.namespace': 'default',
            'csi.storage.k8s.io/pod.uid': podUid,
          },
        }),
      ),
    unmount: (podUid) => call((node) => node.nodeUnpublishVolume({ volumeId, targetPath: targetOf(podUid) })),
  }
}
