import { type Api, listPages } from '../k8s/client/api.ts'

/** Tells by its name which objects a selector takes, as the API server has it; all where there is none. */
export async function select(
  api: Pick<Api, 'send'>,
  path: string,
  labelSelector: string | undefined,
): Promise<(object: { namespace?: string; name: string }) => boolean> {
  if (labelSelector === undefined) return () => true
  const selected = new Set<string>()
  for await (const { items } of listPages(api, path, { labelSelector }))
    for (const { metadata } of items) selected.add(`${metadata?.namespace ?? ''}/${metadata?.name}`)
  return ({ namespace = '', name }) => selected.has(`${namespace}/${name}`)
}
