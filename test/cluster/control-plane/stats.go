package main

import (
	"context"
	"os"
	"strings"
	"time"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
)

// fakeMachine is a machine that has plenty of everything, for the kubelet's statistics. Those of volumes are real.
type fakeMachine struct{ cadvisortest.Fake }

// MachineInfo tells the boot of the machine, as a real kubelet does.
func (m *fakeMachine) MachineInfo(logger klog.Logger) (*cadvisorapi.MachineInfo, error) {
	info, err := m.Fake.MachineInfo(logger)
	if err != nil {
		return nil, err
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	info.BootID = strings.TrimSpace(string(id))
	return info, err
}

func (m *fakeMachine) ContainerInfoV2(
	name string, _ cadvisorapi.RequestOptions,
) (map[string]cadvisorapi.ContainerInfo, error) {
	stats := []*cadvisorapi.ContainerStats{{Timestamp: time.Now()}}
	return map[string]cadvisorapi.ContainerInfo{name: {Stats: stats}}, nil
}

func (m *fakeMachine) ImagesFsInfo(context.Context) (cadvisorapi.FsInfo, error) {
	return emptyDisk(), nil
}
func (m *fakeMachine) RootFsInfo() (cadvisorapi.FsInfo, error) { return emptyDisk(), nil }
func (m *fakeMachine) ContainerFsInfo(context.Context) (cadvisorapi.FsInfo, error) {
	return emptyDisk(), nil
}
func (m *fakeMachine) GetDirFsInfo(string) (cadvisorapi.FsInfo, error) { return emptyDisk(), nil }

func emptyDisk() cadvisorapi.FsInfo {
	const size, inodes = 100 << 30, 1 << 20
	free := uint64(inodes)
	return cadvisorapi.FsInfo{
		Timestamp: time.Now(), Device: "fake", Mountpoint: "/",
		Capacity: size, Available: size, Inodes: &free, InodesFree: &free,
	}
}

// statsRuntime lists statistics of every container, without which the kubelet has none of the pod's volumes.
type statsRuntime struct{ internalapi.RuntimeService }

func (r statsRuntime) ListContainerStats(
	ctx context.Context, _ *runtimeapi.ContainerStatsFilter,
) ([]*runtimeapi.ContainerStats, error) {
	containers, err := r.ListContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	stats := make([]*runtimeapi.ContainerStats, 0, len(containers))
	for _, c := range containers {
		stats = append(stats, &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{
			Id: c.Id, Metadata: c.Metadata, Labels: c.Labels, Annotations: c.Annotations,
		}})
	}
	return stats, nil
}
