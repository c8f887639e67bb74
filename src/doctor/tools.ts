import { formatCount } from '../text/quantity.ts'
import { adviseOnTools, findMissing, requiredTools, type Tool } from '../tools.ts'
import { type Finding, fail, ok, warn } from './finding.ts'
import type { Patient } from './patient.ts'

/** Whether the programs that the daemon runs are there; one finding for each that is not. */
export async function checkTools(patient: Patient, folders?: readonly string[]): Promise<Finding[]> {
  const { driverKind, lvmUseThinVolumes, hostTools } = patient.settings
  const tools = requiredTools(driverKind, lvmUseThinVolumes, hostTools)
  const missing = await findMissing(tools, { hostTools, run: patient.run, ...(folders ? { folders } : {}) })
  const where = hostTools ? ' on the host' : ''
  if (missing.length === 0) return [ok('tools', `all are there${where}: ${tools.map(({ tool }) => tool).join(', ')}`)]
  return [
    ...(missing.length < tools.length
      ? [ok('tools', `${tools.length - missing.length} of ${formatCount(tools.length, 'tool')} are there${where}`)]
      : []),
    ...missing.map((tool) => describeMissing(tool, where)),
  ]
}

function describeMissing(tool: Tool, where: string): Finding {
  const message = `${tool.tool} is missing${tool.own ? '' : where}; it is needed for ${tool.neededFor}`
  const advice = `${adviseOnTools([tool])}${tool.own ? '' : where}`
  return tool.optional ? warn('tools', message, advice) : fail('tools', message, advice)
}
