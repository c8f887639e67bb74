import type { Log } from '../log.ts'
import { csiDriverName } from './driver.ts'
import type { Registration } from './proto/registration_pb.ts'
import type { Handlers } from './service.ts'

export interface RegistrationParts {
  /** Told why the kubelet did not register the driver. */
  onRefused?: ((message: string) => void) | undefined
  log: Pick<Log, 'info' | 'warn'>
}

/** Tells the kubelet, which looks for sockets in its folder plugins_registry, where the driver is. */
export function buildRegistration(
  endpoint: string,
  { onRefused, log }: RegistrationParts,
): Handlers<typeof Registration> {
  return {
    getInfo: async () => ({ type: 'CSIPlugin', name: csiDriverName, endpoint, supportedVersions: ['1.0.0'] }),
    notifyRegistrationStatus: async ({ pluginRegistered, error }) => {
      const message = `The kubelet did not register the CSI driver: ${error}`
      if (pluginRegistered) log.info('The kubelet has registered the CSI driver.')
      else {
        log.warn(message)
        onRefused?.(message)
      }
      return {}
    },
  }
}
