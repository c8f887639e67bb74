import type { Log } from '../../log.ts'
import type { Meter } from '../../meter.ts'
import type { Api } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import type { Recorder } from '../client/events.ts'
import type { FrontName } from '../fronts/front.ts'
import type { LedgerKeepers } from '../model/ledger-keeper.ts'
import type { Copies } from './copies.ts'
import type { Liveness } from './liveness.ts'
import type { UnscheduledPods } from './pods.ts'

/** What a provisioner is told. */
export interface ProvisionerParts {
  /** For following the cluster, which also a provisioner does that waits for its turn. */
  api: Api
  namespace: string
  /** By which kubelets have volumes mounted whose class does not say it. */
  defaultFront: FrontName
  /** How long a node's object must be gone before its volumes are given up. */
  nodeGoneGraceMs: number
  /** Whether claims of a node that is gone are deleted, so that their owners get new ones elsewhere. */
  deleteClaimsOfGoneNodes: boolean
  /** Claims without a volume are looked at again after so long, or sooner. */
  lookAgainMs?: number
  /** Promises nobody came back for are looked at again after so long. */
  tidyMs?: number
  /** For how long a node is away, which setting the hour must not change. */
  clock: Pick<Clock, 'now'>
  /** For what people read. */
  now: () => Date
  log: Pick<Log, 'debug' | 'info' | 'warn'>
  meter?: Pick<Meter, 'operation' | 'work' | 'backlogs'>
}

/** What one that leads works with. */
export interface LeaderParts extends ProvisionerParts {
  /** For acting; it refuses when another may lead. */
  api: Api
  copies: Copies
  liveness: Liveness
  pods: UnscheduledPods
  ledgers: LedgerKeepers
  recorder: Recorder
}
