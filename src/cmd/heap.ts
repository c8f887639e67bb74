import { setFlagsFromString } from 'node:v8'

/** V8 would rather let the heap grow than collect it; on a node, memory belongs to the pods. */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString('--heap-growing-percent=10')
}
