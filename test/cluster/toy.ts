/** The flex driver and pods that the tests of the rig itself go by. */
import { run } from '../../src/run.ts'

/** The path of a pod of the namespace `default` in the API. */
export const podPath = (name: string) => `/api/v1/namespaces/default/pods/${name}`

/** A pod that takes any node, and each volume at `/<its name>`. */
export function buildPod(name: string, volumes: readonly { name: string; [source: string]: unknown }[], spec = {}) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: {
      tolerations: [{ operator: 'Exists' }],
      dnsPolicy: 'Default',
      containers: [
        { name: 'main', image: 'none', volumeMounts: volumes.map(({ name }) => ({ name, mountPath: `/${name}` })) },
      ],
      volumes,
      ...spec,
    },
  }
}

/** The flex driver that `installToyDriver()` installs, as a pod's volume names it. */
export const toyDriver = 'test/toy'

const toyScript = `#!/bin/sh
case $1 in
  init) echo '{"status": "Success", "capabilities": {"attach": false}}' ;;
  mount) mount -t tmpfs -o size=1m toy "$2" && echo '{"status": "Success"}' ;;
  unmount) umount "$2" && echo '{"status": "Success"}' ;;
  *) echo '{"status": "Not supported"}' ;;
esac
`

/** The shell script that puts a flex driver into a plugin folder, which mounts a tmpfs of 1 MiB. */
export function buildToyInstallation(pluginDir: string): string {
  const folder = `${pluginDir}/${toyDriver.replace('/', '~')}`
  return `mkdir -p '${folder}'
cat > '${folder}/toy' <<'TOY'
${toyScript}TOY
chmod +x '${folder}/toy'
`
}

/** Installs the driver on this machine. */
export async function installToyDriver(pluginDir: string): Promise<void> {
  await run('sh', ['-e', '-c', buildToyInstallation(pluginDir)])
}
