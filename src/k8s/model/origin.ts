import { VolumeError } from '../../volume/errors.ts'
import { adoptedAnnotation } from './names.ts'

/** Other projects whose volumes can become ours as they are. */
export const projectNames = ['topolvm', 'openebs-lvm', 'local-path'] as const
export type ProjectName = (typeof projectNames)[number]

/** What a volume was before it was ours. */
export interface Origin {
  project: ProjectName
  /** In the pool: of the logical volume, or of the directory. */
  name: string
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const objectName = '[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?'
const claimOfDirectory = new RegExp(`^_${objectName}_${objectName}$`)

/** How each project names what it makes for the PV of that name: anything else may be anybody's. */
const isNamed: Readonly<Record<ProjectName, (name: string, volume: string) => boolean>> = {
  topolvm: (name) => uuid.test(name),
  'openebs-lvm': (name, volume) => name === volume,
  'local-path': (name, volume) => name.startsWith(volume) && claimOfDirectory.test(name.slice(volume.length)),
}

/** Whether that project would name it so. */
export const isOrigin = ({ project, name }: Origin, volume: string): boolean => isNamed[project](name, volume)

/** As it stands in an annotation, and in a ledger. */
export const formatOrigin = ({ project, name }: Origin): string => `${project}/${name}`

/** Throws `invalid` for what none of those projects would have made for the PV of that name. */
export function parseOrigin(text: string, volume: string): Origin {
  const [start = '', ...rest] = text.split('/')
  const project = projectNames.find((one) => one === start)
  const origin = project && { project, name: rest.join('/') }
  if (origin && isOrigin(origin, volume)) return origin
  throw new VolumeError(
    'invalid',
    `Cannot adopt ${volume} as ${adoptedAnnotation} must name what ${projectNames.join(', ')} made for it: it is ${JSON.stringify(text.slice(0, 300))}.`,
  )
}
