/** What the suite is told of elastic-local (test/e2e/storage/external), for each of its classes here. */

const provisioner = 'elastic-local.volumes.k8s.elastic.co'

const buildClass = (name: string, fields: object) => ({
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: { name },
  provisioner,
  reclaimPolicy: 'Delete',
  allowVolumeExpansion: true,
  ...fields,
})

/** Those that deploy.yaml does not have. */
export const classes: readonly object[] = [
  buildClass('elastic-local-xfs', { volumeBindingMode: 'WaitForFirstConsumer', parameters: { fsType: 'xfs' } }),
  buildClass('elastic-local-immediate', { volumeBindingMode: 'Immediate' }),
  buildClass('elastic-local-csi-xfs', {
    volumeBindingMode: 'WaitForFirstConsumer',
    parameters: { front: 'csi', fsType: 'xfs' },
  }),
]

/** What a volume can do, and what it cannot. */
const capabilities = {
  persistence: true,
  exec: true,
  fsGroup: true,
  multipods: true,
  topology: true,
  capacity: true,
  controllerExpansion: true,
  nodeExpansion: true,
  onlineExpansion: true,
  offlineExpansion: true,
  singleNodeVolume: true,
  readWriteOncePod: true,
  block: false,
  RWX: false,
  capReadOnlyMany: false,
  snapshotDataSource: false,
  pvcDataSource: false,
  volumeLimits: false,
  volumeMountGroup: false,
  multiplePVsSameID: false,
  seLinuxMount: false,
}

const SupportedSizeRange = { Min: '300Mi' }

const flex = {
  StorageClass: { FromExistingClassName: 'elastic-local' },
  DriverInfo: {
    Name: provisioner,
    SupportedSizeRange,
    SupportedMountOption: { noatime: {} },
    MaxFileSize: 100 * 1024 * 1024,
    StressTestOptions: { NumPods: 5, NumRestarts: 5 },
    SupportedFsType: { '': {}, ext4: {}, xfs: {} },
    TopologyKeys: ['kubernetes.io/hostname'],
    Capabilities: capabilities,
  },
}

const xfs = {
  StorageClass: { FromExistingClassName: 'elastic-local-xfs' },
  DriverInfo: { ...flex.DriverInfo, Name: 'elastic-local-xfs', SupportedFsType: { '': {} } },
}

const { topology: _, readWriteOncePod: __, ...immediateCapabilities } = capabilities
/** Has no topology keys: the suite would want the claim to follow its pod. */
const immediate = {
  StorageClass: { FromExistingClassName: 'elastic-local-immediate' },
  DriverInfo: {
    Name: 'elastic-local-immediate',
    SupportedSizeRange,
    SupportedFsType: { '': {}, xfs: {} },
    Capabilities: immediateCapabilities,
    PerformanceTestOptions: {
      ProvisioningOptions: {
        VolumeSize: '300Mi',
        Count: 50,
        // Nanoseconds, and claims a second.
        ExpectedMetrics: { AvgLatency: 30_000_000_000, Throughput: 0.5 },
      },
    },
  },
}

const csi = {
  StorageClass: { FromExistingClassName: 'elastic-local-csi' },
  DriverInfo: {
    ...flex.DriverInfo,
    TopologyKeys: ['volumes.k8s.elastic.co/node'],
    Capabilities: { ...capabilities, block: true },
  },
}

const csiXfs = {
  StorageClass: { FromExistingClassName: 'elastic-local-csi-xfs' },
  DriverInfo: { ...csi.DriverInfo, SupportedFsType: { '': {} } },
}

export const drivers = { flex, xfs, immediate, csi, csiXfs }
export type DriverName = keyof typeof drivers
