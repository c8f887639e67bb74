import { readlinkSync } from 'node:fs'
import { isSea } from 'node:sea'
import { examine, formatFindings } from '../doctor/doctor.ts'
import { buildDaemonKeeper } from '../inspect/keeper.ts'
import { run } from '../run.ts'
import { formatDocument, isDocumentFormat } from '../text/document.ts'
import { buildInfo } from './build-info.ts'
import { defineCommand } from './command.ts'
import {
  clusterFlags,
  daemonFlags,
  machineFlags,
  onlyWith,
  outputFlag,
  ownNodeName,
  pluginDirFlag,
  toggle,
} from './flags.ts'
import { isPod, openMachine } from './machine.ts'

/** Longest silence of the daemon; it sends a sign of life every 2 s. */
const daemonTimeoutMs = 5000

export const doctorCommand = defineCommand({
  name: 'doctor',
  group: 'Inspect volumes',
  summary: 'Check this machine, from the kernel to the socket, and say what to do',
  description:
    "Changes nothing. Give it the daemon's flags, or run it in the daemon's environment. Exits with 1 if a check fails; a\n" +
    "warning is not a failure. With --takeover it also compares this node with the cluster's PersistentVolumes, and says\n" +
    'what a daemon with --takeover would do.',
  examples: [
    'elastic-local doctor',
    'elastic-local doctor --driver-kind LOOP --volumes-dir /srv/volumes',
    'elastic-local doctor -o json | jq ".findings[] | select(.status != \\"ok\\")"',
  ],
  flags: {
    output: outputFlag('table', 'json', 'yaml', 'jsonpath='),
    socket: daemonFlags.socket,
    kubeletDir: daemonFlags.kubeletDir,
    csi: daemonFlags.csi,
    flex: daemonFlags.flex,
    pluginDir: pluginDirFlag,
    ...machineFlags,
    ...onlyWith('takeover', { kubeconfig: clusterFlags.kubeconfig, nodeName: daemonFlags.nodeName }),
    takeover: toggle('takeover', 'compare with the cluster, and say what a takeover would do'),
  },
  async run(call) {
    const { flags, log, screen } = call
    const quiet = { info: (message: string) => log.debug(message), warn: (message: string) => log.debug(message) }
    let checking = ''
    const findings = await screen.progress(
      () => `Checking the ${checking}`,
      async () =>
        await examine(
          {
            root: '/',
            settings: flags,
            version: buildInfo.version,
            ...(isSea() ? { executable: '/proc/self/exe' } : {}),
            inContainer: isContainer(),
            run,
            openEngine: () => openMachine(flags, quiet),
            ...(flags.takeover ? { cluster: await openCluster(flags) } : {}),
            daemon: buildDaemonKeeper(flags.socket, { idleTimeoutMs: daemonTimeoutMs }),
            now: new Date(),
          },
          (name) => {
            checking = name
          },
        ),
    )
    const { output } = flags
    if (isDocumentFormat(output)) screen.print(formatDocument(output, { findings }))
    else screen.print(formatFindings(findings, screen))
    return findings.some((finding) => finding.status === 'fail') ? 1 : 0
  },
})

async function openCluster({
  kubeconfig,
  nodeName,
}: {
  kubeconfig?: string | undefined
  nodeName?: string | undefined
}) {
  const { ApiClient, findKubeConfig } = await import('../k8s/client/api.ts')
  const { readVolumes } = await import('../k8s/model/lookups.ts')
  const api = new ApiClient(findKubeConfig(kubeconfig))
  return { node: ownNodeName(nodeName), readVolumes: () => readVolumes(api) }
}

/** Whether this runs in a container: Kubernetes tells its own, and the others have not the mounts of process 1. */
function isContainer(): boolean {
  const first = mountNamespace('1')
  return isPod() || (first !== undefined && first !== mountNamespace('self'))
}

/** Identity of a process's mount namespace (namespaces(7)); nothing when that is not for this user to see. */
function mountNamespace(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch {
    return undefined
  }
}
