package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
	fakeremote "k8s.io/cri-client/pkg/fake"
	"k8s.io/kubernetes/cmd/kubelet/app"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubemark"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
)

type hollowKubeletOptions struct {
	kubeconfig, name, address, rootDir, pluginDir string
	port, maxPods                                 int
	labels                                        map[string]string
	controllerAttachDetach                        bool
}

// newHollowKubeletCommand makes the real kubelet with the real volume manager, mounts and driver calls, over a
// container runtime that only says that containers run.
func newHollowKubeletCommand() *cobra.Command {
	o := hollowKubeletOptions{}
	command := &cobra.Command{
		Use:  "hollow-kubelet",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runHollowKubelet(command.Context(), o) },
	}
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flags.StringVar(&o.name, "node-name", "", "the node's name")
	flags.StringVar(&o.address, "address", "127.0.0.1", "address of the kubelet's server")
	flags.StringVar(&o.rootDir, "root-dir", "", "the kubelet's folder")
	flags.StringVar(&o.pluginDir, "volume-plugin-dir", "", "where flex drivers are")
	flags.IntVar(&o.port, "port", 10250, "port of the kubelet's server")
	flags.IntVar(&o.maxPods, "max-pods", 250, "how many pods it takes")
	flags.StringToStringVar(&o.labels, "node-labels", nil, "labels of the node")
	flags.BoolVar(&o.controllerAttachDetach, "controller-attach-detach", true, "whether the controller manager attaches")
	return command
}

func runHollowKubelet(ctx context.Context, o hollowKubeletOptions) error {
	if ctx == nil {
		ctx = context.Background()
	}
	clientConfig, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", o.kubeconfig, err)
	}
	clientConfig.UserAgent = "hollow-kubelet"
	clientConfig.ContentType = "application/vnd.kubernetes.protobuf"
	clientConfig.QPS, clientConfig.Burst = 50, 100
	client, err := clientset.NewForConfig(clientConfig)
	if err != nil {
		return err
	}
	heartbeatConfig := *clientConfig
	heartbeatConfig.QPS = -1
	heartbeatConfig.Timeout = 10 * time.Second
	heartbeatClient, err := clientset.NewForConfig(&heartbeatConfig)
	if err != nil {
		return err
	}

	if err := os.MkdirAll(o.rootDir, 0o750); err != nil {
		return err
	}
	endpoint := "unix://" + filepath.Join(o.rootDir, "runtime.sock")
	runtime := fakeremote.NewFakeRemoteRuntime()
	if err := runtime.Start(endpoint); err != nil {
		return err
	}
	defer runtime.Stop()
	runtimeService, err := remote.NewRemoteRuntimeServiceBuilder().
		WithEndpoint(endpoint).WithConnectionTimeout(15 * time.Second).Build(ctx)
	if err != nil {
		return err
	}
	runtime.ImageService.SetFakeFilesystemUsage([]*runtimeapi.FilesystemUsage{{
		Timestamp: time.Now().UnixNano(),
		FsId:      &runtimeapi.FilesystemIdentifier{Mountpoint: "/"},
		UsedBytes: &runtimeapi.UInt64Value{}, InodesUsed: &runtimeapi.UInt64Value{},
	}})

	flags, config := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{
		NodeName: o.name, KubeletPort: o.port, MaxPods: o.maxPods, NodeLabels: o.labels,
	})
	// It makes folders of its own, in /tmp, that nobody removes.
	if err := os.RemoveAll(flags.RootDirectory); err != nil {
		return err
	}
	flags.RootDirectory = o.rootDir
	config.StaticPodPath = ""
	config.PodLogsDir = filepath.Join(o.rootDir, "pod-logs")
	config.Address = o.address
	config.VolumePluginDir = o.pluginDir
	config.EnableControllerAttachDetach = o.controllerAttachDetach
	config.SyncFrequency.Duration = 5 * time.Second
	config.VolumeStatsAggPeriod.Duration = 5 * time.Second

	kubelet := kubemark.NewHollowKubelet(flags, config, client, heartbeatClient,
		&fakeMachine{cadvisortest.Fake{NodeName: o.name}}, runtime.ImageService, statsRuntime{runtimeService},
		cm.NewStubContainerManager())
	plugins, err := app.ProbeVolumePlugins(ctx, utilfeature.DefaultFeatureGate)
	if err != nil {
		return err
	}
	mounter := mount.New("")
	deps := kubelet.KubeletDeps
	deps.VolumePlugins = plugins
	deps.Mounter = mounter
	deps.Subpather = subpath.New(mounter)
	deps.HostUtil = hostutil.NewHostUtil()
	deps.OSInterface = kubecontainer.RealOS{}
	deps.DynamicPluginProber = app.GetDynamicPluginProber(ctx, o.pluginDir, exec.New())
	// The real one, so that pods get their events.
	deps.Recorder = nil
	deps.EventClient = client.CoreV1()
	kubelet.Run(ctx)
	return nil
}
