/** The real Prometheus, which scrapes what it is told. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cluster } from './cluster.ts'
import { findFreePorts } from './control-plane.ts'
import { Program, poll } from './program.ts'

export interface Prometheus {
  /** The rows that an expression gives now. Throws with Prometheus' own words when it cannot be read. */
  query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]>
  /** What Prometheus itself has to say, such as `rules`. */
  ask<T>(path: string): Promise<T>
}

/** Starts a Prometheus beside a cluster, with which it ends. `targets` are addresses by the name of their job. */
export async function startPrometheus(
  cluster: Cluster,
  { targets, rules }: { targets: Readonly<Record<string, readonly string[]>>; rules: string },
): Promise<Prometheus> {
  const folder = join(cluster.folder, 'prometheus')
  await mkdir(folder)
  const jobs = Object.entries(targets).map(([job_name, targets]) => ({ job_name, static_configs: [{ targets }] }))
  const config = {
    global: { scrape_interval: '2s', scrape_timeout: '2s', evaluation_interval: '2s' },
    rule_files: [rules],
    scrape_configs: jobs,
  }
  // JSON is YAML, too.
  await writeFile(join(folder, 'prometheus.yml'), JSON.stringify(config))
  const [port = 0] = await findFreePorts(1, cluster.address)
  const url = `http://${cluster.address}:${port}`
  const flags = {
    'config.file': join(folder, 'prometheus.yml'),
    'storage.tsdb.path': join(folder, 'data'),
    'web.listen-address': `${cluster.address}:${port}`,
  }
  const program = new Program({
    name: 'prometheus',
    command: ['prometheus', ...Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)],
    log: join(cluster.folder, 'logs/prometheus.log'),
    ready: (signal) =>
      poll(
        async () =>
          await fetch(`${url}/-/ready`)
            .then(({ ok }) => ok)
            .catch(() => false),
        30_000,
        signal,
      ),
  })
  cluster.adopt(program)
  await program.start()
  const ask = async <T>(path: string) => {
    const answer = (await (await fetch(`${url}/api/v1/${path}`)).json()) as { status: string; error?: string; data: T }
    if (answer.status !== 'success') throw new Error(`Prometheus refused ${path}: ${answer.error}`)
    return answer.data
  }
  return {
    ask,
    query: async (expression) => {
      const { result } = await ask<{ result: Awaited<ReturnType<Prometheus['query']>> }>(
        `query?query=${encodeURIComponent(expression)}`,
      )
      return result
    },
  }
}
