import { tmpdir } from 'node:os'
import type { EngineParts } from '../src/volume/engine.ts'
import { VolumeError } from '../src/volume/errors.ts'
import { MemoryMachine } from '../src/volume/memory.ts'
import type { World } from './contract.ts'
import { Life } from './crash/life.ts'

const volumesDir = '/volumes'

/** A world that exists only in memory. */
export async function openMemoryWorld(): Promise<World> {
  const machine = new MemoryMachine({ capacityBytes: 8n << 30n })
  const { pool, mounts, filesystems, journal } = machine
  const parts = { pool, mounts, filesystems, journal, volumesDir, log: { info: () => {}, warn: () => {} } }
  return {
    parts,
    renew: async () => inSteps(parts),
    extentBytes: 4n << 20n,
    canGrow: () => true,
    // A real one, in which nothing is: that a place is the kubelet's is looked up on the disk.
    kubeletDir: tmpdir(),
    target: (pod, name) => `/pods/${pod}/${name}`,
    write: async (folder, file, text) => {
      if ((await mounts.read()).at(folder)?.readOnly) throw new VolumeError('failed', 'read-only file system')
      machine.filesIn(folder).files.set(file, text)
    },
    read: async (folder, file) => machine.filesIn(folder).files.get(file),
    sizeAt: async (target) => machine.filesIn(target).sizeBytes,
    reboot: async () => machine.reboot(),
    plantForeign: async (name) => {
      const foreign = {
        id: '',
        marked: false,
        sizeBytes: 1n,
        fsType: 'ext4',
        signatures: ['ext4'],
        filesystemBytes: 1n,
      } as const
      machine.volumes.set(name, { ...foreign, signatures: ['ext4'], files: new Map() })
    },
    plantOther: async (name, { fsType, sizeBytes }, text) => {
      const files = new Map([['file', text]])
      const signatures = fsType === 'block' ? [] : [fsType]
      const other = { id: '', marked: false, sizeBytes, fsType, signatures, filesystemBytes: sizeBytes, files }
      machine.volumes.set(name, other)
      return true
    },
    useOther: async (name) => {
      machine.held.add(name)
      return async () => void machine.held.delete(name)
    },
    unmark: async (name) => {
      const volume = machine.volumes.get(name)
      if (volume) volume.marked = false
      return true
    },
    isForeignUntouched: async (name) => {
      const untouched = machine.volumes.get(name)?.sizeBytes === 1n
      machine.volumes.delete(name)
      return untouched
    },
    holds: async (device, text) =>
      [...(machine.volumes.get(device.slice('/dev/memory/'.length))?.files.values() ?? [])].includes(text),
    plantSignature: async (device) => {
      const volume = machine.volumes.get(device.slice('/dev/memory/'.length))
      if (volume) volume.signatures = ['swap']
    },
    leftovers: async () => [
      ...machine.volumes.keys(),
      ...machine.mounted.map((mount) => mount.target),
      ...[...machine.intents.keys()].map((name) => `intents/${name}`),
      ...[...machine.made.keys()].map((name) => `made/${name}`),
    ],
    close: async () => {},
  }
}

/** Parts whose every change of the machine is a step in the life of whoever makes it. */
function inSteps(parts: EngineParts): EngineParts {
  return {
    ...parts,
    pool: wrap(parts.pool, ['create', 'grow', 'remove', 'activate', 'deactivate']),
    mounts: wrap(parts.mounts, ['mountDevice', 'bind', 'bindNode', 'unmount', 'removeFolder']),
    filesystems: wrap(parts.filesystems, ['signatures', 'make', 'check', 'zero', 'grow']),
    journal: wrap(parts.journal, ['write', 'clear', 'finish', 'forget']),
  }
}

function wrap<T extends object>(part: T, changes: readonly (keyof T & string)[]): T {
  const steps = changes.map((name) => {
    const change = part[name] as (...args: unknown[]) => Promise<unknown>
    return [
      name,
      (...args: unknown[]) => {
        const doing = () => change(...args)
        return Life.current()?.pass(`${name} ${args[0]}`, doing) ?? doing()
      },
    ]
  })
  return { ...part, ...Object.fromEntries(steps) }
}
