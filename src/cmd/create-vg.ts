import { ensureVolumeGroup } from '../disks/volume-group.ts'
import { buildDaemonKeeper } from '../inspect/keeper.ts'
import { buildFilesystems } from '../mount/filesystems.ts'
import { run } from '../run.ts'
import { formatBytes } from '../text/quantity.ts'
import { defineCommand } from './command.ts'
import { diskSizeFlag, machineFlags, socketFlag } from './flags.ts'
import { ownUser } from './visit.ts'

export const createVgCommand = defineCommand({
  name: 'create-vg',
  group: 'Run',
  changes: true,
  args: '<...disks>',
  summary: "Create this node's volume group from blank disks, or add disks to it",
  description:
    'Refuses a disk that is missing, in use, partitioned or not blank, says why, and then changes nothing on any disk.\n' +
    'No flag overrides that: wipe a disk by hand if nobody needs what is on it.\n' +
    'Disks already in the group stay as they are. A disk may be a quoted pattern.',
  examples: ['elastic-local create-vg /dev/sdb', 'elastic-local create-vg --size 375Gi /dev/nvme0n1 /dev/nvme0n2'],
  flags: {
    size: diskSizeFlag,
    lvmVolumeGroup: machineFlags.lvmVolumeGroup,
    socket: socketFlag,
  },
  run: async ({ args, flags, say }) => {
    if (process.getuid?.() !== 0) throw new Error('Cannot create a volume group as the user must be root.')
    const { lvmVolumeGroup: name, size: sizeBytes, socket } = flags
    const request = { name, disks: args, sizeBytes }
    const { action, disks } = await ensureVolumeGroup(request, { run, filesystems: buildFilesystems({ run }) })
    const made = `${action === 'created' ? 'Creation' : 'Growth'} of volume group ${name} with ${disks.map(({ path }) => path).join(', ')}`
    // There may be none before there is a group, nor where this runs.
    if (action !== 'unchanged')
      await buildDaemonKeeper(socket, { user: ownUser() })
        .note(made)
        .catch(() => {})
    if (action === 'unchanged') return say(`Volume group ${name} already has these disks: nothing to do.`)
    for (const { path, sizeBytes } of disks) say(`${path}, ${formatBytes(sizeBytes)}: was blank.`)
    say(action === 'created' ? `Created volume group ${name}.` : `Extended volume group ${name}.`)
  },
})
