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
  summary: "Make this node's volume group of disks that are blank, or add disks to it",
  description:
    'Refuses a disk that is not there, is in use, has partitions, or holds anything at all, and says what; then nothing is\n' +
    'changed on any disk. There is no flag against that: whoever does not need what is on a disk makes it blank by hand.\n' +
    'Disks that are in the group already stay as they are. A disk may be a pattern, in quotes.',
  examples: ['elastic-local create-vg /dev/sdb', 'elastic-local create-vg --size 375Gi /dev/nvme0n1 /dev/nvme0n2'],
  flags: {
    size: diskSizeFlag,
    lvmVolumeGroup: machineFlags.lvmVolumeGroup,
    socket: socketFlag,
  },
  run: async ({ args, flags, say }) => {
    if (process.getuid?.() !== 0) throw new Error('Cannot make a volume group as the user must be root.')
    const { lvmVolumeGroup: name, size: sizeBytes, socket } = flags
    const request = { name, disks: args, sizeBytes }
    const { action, disks } = await ensureVolumeGroup(request, { run, filesystems: buildFilesystems({ run }) })
    const made = `${action === 'created' ? 'Making' : 'Growth'} of volume group ${name} with ${disks.map(({ path }) => path).join(', ')}`
    // There may be none before there is a group, nor where this runs.
    if (action !== 'unchanged')
      await buildDaemonKeeper(socket, { user: ownUser() })
        .note(made)
        .catch(() => {})
    if (action === 'unchanged') return say(`Volume group ${name} has these disks already: nothing to do.`)
    for (const { path, sizeBytes } of disks) say(`${path}, ${formatBytes(sizeBytes)}: was blank.`)
    say(action === 'created' ? `Volume group ${name} is made.` : `Volume group ${name} has grown.`)
  },
})
