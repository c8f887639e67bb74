// Prints the descriptors of what the kubelet and a CSI driver say to each other: a FileDescriptorSet, in base64.
package main

import (
	"encoding/base64"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	files := &descriptorpb.FileDescriptorSet{}
	for _, message := range []protoreflect.ProtoMessage{&csi.Volume{}, &registration.PluginInfo{}} {
		file := message.ProtoReflect().Descriptor().ParentFile()
		files.File = append(files.File, protodesc.ToFileDescriptorProto(file))
	}
	bytes, err := proto.Marshal(files)
	if err != nil {
		panic(err)
	}
	fmt.Println(base64.StdEncoding.EncodeToString(bytes))
}
