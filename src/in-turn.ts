/**
 * Work at places, one after the other at each, in the order in which it is asked for. Whoever asks, by its key, for what was
 * asked for there last and is not at its end waits for that and gets its result.
 */
export function inTurn<T>(): (place: string, key: string, work: () => Promise<T>) => Promise<T> {
  const last = new Map<string, { key: string; result: Promise<T> }>()
  return (place, key, work) => {
    const before = last.get(place)
    if (before?.key === key) return before.result
    const result = (before ? before.result.then(work, work) : work()).finally(() => {
      if (last.get(place)?.result === result) last.delete(place)
    })
    last.set(place, { key, result })
    return result
  }
}
