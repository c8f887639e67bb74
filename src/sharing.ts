/**
 * The same look, shared: whoever asks while one is under way gets the next, with all others who wait for that. So what is seen was
 * there, or came, after it was asked for, and many who ask at once cost one look.
 */
export function sharing<T>(look: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<unknown> = Promise.resolve()
  let next: Promise<T> | undefined
  return () => {
    next ??= underWay.then(() => {
      next = undefined
      const looked = look()
      underWay = looked.catch(() => {})
      return looked
    })
    return next
  }
}
