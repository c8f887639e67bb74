import type { RecordedMove } from '../k8s/moves/record.ts'

/** What to do about a move from one front to the other that has not come to its end. */
export function adviseOnMove({ to, facts: { claim } }: RecordedMove): string {
  const command = `kubectl elastic_local volumes move-to-${to} ${claim.name} --namespace=${claim.namespace}`
  return `Unless somebody is running it: ${command}`
}
