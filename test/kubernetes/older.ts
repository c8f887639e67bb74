/** What of the sources in test/cluster/control-plane is otherwise in older versions of Kubernetes. */
interface Difference {
  /** The last minor version that has it. */
  until: number
  file: string
  newest: string
  older: string
}

/** Of several for the same words, the one of the oldest version comes last. */
const differences: readonly Difference[] = [
  {
    until: 36,
    file: 'hollow_kubelet.go',
    newest: `remote.NewRemoteRuntimeServiceBuilder().
		WithEndpoint(endpoint).WithConnectionTimeout(15 * time.Second).Build(ctx)`,
    older: 'remote.NewRemoteRuntimeService(ctx, endpoint, 15*time.Second, nil, false)',
  },
  {
    until: 35,
    file: 'hollow_kubelet.go',
    newest: 'remote.NewRemoteRuntimeService(ctx, endpoint, 15*time.Second, nil, false)',
    older: 'remote.NewRemoteRuntimeService(endpoint, 15*time.Second, nil, nil)',
  },
  {
    until: 35,
    file: 'hollow_kubelet.go',
    newest: 'app.GetDynamicPluginProber(ctx, ',
    older: 'app.GetDynamicPluginProber(',
  },
  { until: 33, file: 'hollow_kubelet.go', newest: 'app.ProbeVolumePlugins(ctx, ', older: 'app.ProbeVolumePlugins(' },
  {
    until: 36,
    file: 'stats.go',
    newest: 'cadvisorapi "github.com/google/cadvisor/lib/model"',
    older: 'machineapi "github.com/google/cadvisor/info/v1"\n\tcadvisorapi "github.com/google/cadvisor/info/v2"',
  },
  {
    until: 36,
    file: 'stats.go',
    newest:
      'MachineInfo(logger klog.Logger) (*cadvisorapi.MachineInfo, error) {\n\tinfo, err := m.Fake.MachineInfo(logger)',
    older: 'MachineInfo() (*machineapi.MachineInfo, error) {\n\tinfo, err := m.Fake.MachineInfo()',
  },
  { until: 36, file: 'stats.go', newest: '\t"k8s.io/klog/v2"\n', older: '' },
  { until: 31, file: 'stats.go', newest: 'ImagesFsInfo(context.Context)', older: 'ImagesFsInfo()' },
  { until: 31, file: 'stats.go', newest: 'ContainerFsInfo(context.Context)', older: 'ContainerFsInfo()' },
  { until: 33, file: 'main.go', newest: 'NewKubeletCommand(context.Background())', older: 'NewKubeletCommand()' },
  { until: 33, file: 'main.go', newest: '\t"context"\n', older: '' },
]

/** Gives the sources, by their names, as a minor version of Kubernetes needs them. Throws when one has changed since. */
export function rewriteForOlder(sources: ReadonlyMap<string, string>, minor: number): Map<string, string> {
  const rewritten = new Map(sources)
  for (const { until, file, newest, older } of differences) {
    if (minor > until) continue
    const text = rewritten.get(file) ?? ''
    const [before = '', ...after] = text.split(newest)
    if (after.length !== 1)
      throw new Error(
        `Cannot build Kubernetes v1.${minor} as ${file} must have this once (${import.meta.filename}): ${newest}`,
      )
    rewritten.set(file, before + older + after.join())
  }
  return rewritten
}
