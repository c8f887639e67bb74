import { parseAllDocuments } from 'yaml'

/** What to change in each pod that a manifest describes. */
export interface Overlay {
  /** Fields of the pod, such as `hostNetwork`. */
  pod?: Readonly<Record<string, unknown>>
  /** Fields of all its containers, init containers among them. */
  container?: Readonly<Record<string, unknown>>
  /** Environment variables of all its containers. */
  env?: Readonly<Record<string, string>>
}

interface Container {
  env?: { name: string }[]
}

interface PodSpec {
  containers: Container[]
  initContainers?: Container[]
}

interface Manifest {
  kind?: string
  spec?: { template?: { spec?: PodSpec } }
}

/** Gives the objects of a manifest, in YAML, with changes. Throws with what is wrong in the text. */
export function overlayManifest(text: string, overlay: Overlay): object[] {
  return parseAllDocuments(text, { merge: true }).flatMap((document) => {
    for (const error of document.errors) throw error
    const manifest = document.toJS() as Manifest | null
    return manifest === null ? [] : [overlayObject(manifest, overlay)]
  })
}

function overlayObject(manifest: Manifest, overlay: Overlay): Manifest {
  const { spec } = manifest
  if (manifest.kind === 'Pod')
    return { ...manifest, spec: overlayPod(spec as PodSpec, overlay) as Manifest['spec'] & {} }
  if (!spec?.template?.spec) return manifest
  return {
    ...manifest,
    spec: { ...spec, template: { ...spec.template, spec: overlayPod(spec.template.spec, overlay) } },
  }
}

function overlayPod(spec: PodSpec, overlay: Overlay): PodSpec {
  const { pod = {}, container: fields = {}, env = {} } = overlay
  const added = Object.entries(env).map(([name, value]) => ({ name, value }))
  const change = (container: Container): Container => ({
    ...container,
    ...fields,
    env: [...(container.env ?? []).filter(({ name }) => !Object.hasOwn(env, name)), ...added],
  })
  const { containers, initContainers } = spec
  return {
    ...spec,
    ...pod,
    containers: containers.map(change),
    ...(initContainers ? { initContainers: initContainers.map(change) } : {}),
  }
}
