import type { RecordedMove } from '../k8s/moves/record.ts'

/** What to do about a move from one front to the other, or an adoption, that has not come to its end. */
export function adviseOnMove({ to, from, facts: { claim } }: RecordedMove): string {
  const command = from ? `adopt --from=${from}` : `move-to-${to}`
  return `Unless somebody is running it: kubectl elastic_local volumes ${command} ${claim.name} --namespace=${claim.namespace}`
}
