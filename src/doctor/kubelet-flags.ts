import { readlink } from 'node:fs/promises'
import { basename } from 'node:path'
import { at, type Patient, readNames, readText } from './patient.ts'

const standardRootDir = '/var/lib/kubelet'

/**
 * The `--root-dir` of the kubelet of this machine; nothing where no kubelet is seen, as one that is a part of k3s, or from
 * a container that has not the processes of its node.
 */
export async function findRootDir(patient: Patient): Promise<string | undefined> {
  const pids = (await readNames(patient, '/proc')).filter((name) => /^[0-9]+$/.test(name))
  for (const pid of pids) {
    const flags = await findFlags(patient, pid)
    // A kubelet in a container of this machine, as of kind, has folders of its own.
    if (flags && (await namespaceOf(patient, pid)) === (await namespaceOf(patient, '1')))
      return lastValue(flags, 'root-dir') ?? standardRootDir
  }
  return undefined
}

/** The flags of a process that is a kubelet: by itself, as `<program> kubelet`, or in the kubelite of MicroK8s. */
async function findFlags(patient: Patient, pid: string): Promise<string[] | undefined> {
  const [program = '', ...words] = (await readText(patient, `/proc/${pid}/cmdline`))?.split('\0') ?? []
  if (basename(program) === 'kubelet' || words[0] === 'kubelet') return words
  // Its flags are lines of a file, with variables of its environment (run-kubelite-with-args, default-args/kubelet).
  const file = basename(program) === 'kubelite' ? lastValue(words, 'kubelet-args-file') : undefined
  if (!file) return undefined
  const text = (await readText(patient, `/proc/${pid}/root${file}`)) ?? ''
  const environment = (await readText(patient, `/proc/${pid}/environ`))?.split('\0') ?? []
  const expand = (line: string) =>
    line.replace(/\$\{(\w+)\}|\$(\w+)/g, (variable, braced, bare) => {
      const entry = environment.find((each) => each.startsWith(`${braced ?? bare}=`))
      return entry?.slice(entry.indexOf('=') + 1) ?? variable
    })
  return text.split('\n').map(expand)
}

/** The value of a flag, as `--name=value` or `--name value`; the last counts. */
function lastValue(words: readonly string[], name: string): string | undefined {
  const values = words.flatMap((word, index) => {
    if (word.startsWith(`--${name}=`)) return [word.slice(name.length + 3)]
    return word === `--${name}` ? [words[index + 1] ?? ''] : []
  })
  return values.at(-1)?.replace(/(?<=.)\/+$/, '')
}

async function namespaceOf(patient: Patient, pid: string): Promise<string | undefined> {
  return await readlink(at(patient, `/proc/${pid}/ns/mnt`)).catch(() => undefined)
}
