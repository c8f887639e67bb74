import manifest from '../../package.json' with { type: 'json' }

export interface BuildInfo {
  version: string
  /** Short, with `-dirty` when the tree differed; `dev` when the sources run without a build. */
  commit: string
}

/** Put in by build.mjs. */
declare const elasticLocalBuild: BuildInfo | undefined

export const buildInfo: BuildInfo =
  typeof elasticLocalBuild === 'undefined' ? { version: manifest.version, commit: 'dev' } : elasticLocalBuild
