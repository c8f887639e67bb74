/** The machine's only address in a network that `enterOwnNetwork()` made; it is one of those kept for examples (RFC 5737). */
export const ownAddress = '192.0.2.1'

const mark = 'ELASTIC_LOCAL_TEST_NETWORK'
const script = `ip link set lo up
ip address add ${ownAddress}/32 dev lo
exec "$@"`

/**
 * Makes this process start again in a network namespace of its own, from which nothing gets out and which goes with
 * it; there it does nothing. For the top of a test file that needs an address other than a loopback one. Root only.
 */
export function enterOwnNetwork(): void {
  if (process.env[mark]) return
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const command = ['unshare', '--net', '--', 'sh', '-e', '-c', script, 'sh', ...again]
  process.execve?.('/usr/bin/env', ['env', ...command], { ...process.env, [mark]: ownAddress })
  throw new Error('Cannot create a network for the test as Node must have process.execve()')
}
