import { csiDriverName } from './driver.ts'
import { type Identity, PluginCapability_Service_Type, PluginCapability_VolumeExpansion_Type } from './proto/csi_pb.ts'
import type { Handlers } from './service.ts'

/** Who this is; `hasController`: whether it makes and removes volumes when it is called to. */
export function buildIdentity(parts: {
  version: string
  hasController: boolean
  isReady: () => boolean
}): Handlers<typeof Identity> {
  const { CONTROLLER_SERVICE, VOLUME_ACCESSIBILITY_CONSTRAINTS } = PluginCapability_Service_Type
  const services = [VOLUME_ACCESSIBILITY_CONSTRAINTS, ...(parts.hasController ? [CONTROLLER_SERVICE] : [])]
  const { ONLINE } = PluginCapability_VolumeExpansion_Type
  return {
    getPluginInfo: async () => ({ name: csiDriverName, vendorVersion: parts.version }),
    getPluginCapabilities: async () => ({
      capabilities: [
        ...services.map((type) => ({ type: { case: 'service' as const, value: { type } } })),
        { type: { case: 'volumeExpansion' as const, value: { type: ONLINE } } },
      ],
    }),
    probe: async () => ({ ready: parts.isReady() }),
  }
}
