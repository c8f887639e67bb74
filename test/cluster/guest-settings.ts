/** Where the agent reads `AgentSettings`: in the scratch folder, as a command line is what one looks for processes by. */
export const agentSettingsFile = 'agent.json'

/** What `startGuestNode()` tells the agent. */
export interface AgentSettings {
  address: string
  port: number
  /** Folders of the machine to show in the guest, read-only, where they are hidden. */
  hostFolders: string[]
  /** Folders to keep on the state disk, by their paths in the guest. */
  keptFolders: Record<string, string>
  /** A shell script to run before all else. */
  setup: string
  kubelet: string[]
}

/** What the agent is asked for: to run a command to its end, or to keep one running. */
export type AgentRequest = { run: { file: string; args: readonly string[] } } | { keep: Kept }

/** A program to run again whenever it ends. */
export interface Kept {
  name: string
  command: readonly string[]
}
