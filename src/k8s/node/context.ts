import type { V1PersistentVolume } from '@kubernetes/client-node'
import type { Log, LogFields } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import type { Engine } from '../../volume/engine.ts'
import type { Api } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import type { Recorder } from '../client/events.ts'
import type { Reflector } from '../client/reflector.ts'
import type { LedgerKeeper } from '../model/ledger-keeper.ts'
import { readVolume } from '../model/lookups.ts'
import { aboutVolume, pickVolume, type VolumeFacts } from '../model/persistent-volume.ts'
import type { HeldVolumes } from './held-volumes.ts'
import type { Notes } from './note.ts'

export interface NodeContextParts {
  api: Api
  namespace: string
  node: string
  /** To look only: what changes a volume goes through `held`. */
  engine: Pick<Engine, 'stored' | 'find' | 'list' | 'unmarked' | 'examine' | 'report'>
  notes: Pick<Notes, 'read'>
  ledger: Pick<LedgerKeeper, 'latest'>
  held: HeldVolumes
  /** The PVs that carry this node's label. */
  volumes: Reflector<V1PersistentVolume, VolumeFacts>
  /** Has a volume looked at again. */
  lookAgain: (name: string) => void
  recorder: Recorder
  clock: Pick<Clock, 'now'>
  /** For what people read. */
  now: () => Date
  log: Pick<Log, 'info' | 'warn'>
  meter?: Pick<Meter, 'work' | 'backlogs'> | undefined
}

/** What the parts of a node's cluster side share. */
export class NodeContext {
  readonly parts: NodeContextParts

  constructor(parts: NodeContextParts) {
    this.parts = parts
  }

  /** A volume, for the log. */
  about(name: string): LogFields {
    const volume = this.parts.volumes.objects.get(name)
    return volume ? aboutVolume(volume) : { volume: name, node: this.parts.node }
  }

  /** The PV as the API server has it now. */
  async readVolume(name: string): Promise<VolumeFacts | undefined> {
    const found = await readVolume(this.parts.api, name)
    return found && pickVolume(found)
  }

  /** Says where a person will look: on the PV, and on the claim. */
  async say(volume: VolumeFacts, reason: string, message: string): Promise<void> {
    const { name, uid, claim } = volume
    const { recorder } = this.parts
    await recorder.say({ kind: 'PersistentVolume', name, uid }, 'Warning', reason, message)
    if (claim) await recorder.say({ kind: 'PersistentVolumeClaim', ...claim }, 'Warning', reason, message)
  }
}
