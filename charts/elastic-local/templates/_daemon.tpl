{{- /*
The DaemonSet of deploy.yaml for a group of nodes: (dict "root" $ "name" <group> "values" <dict> "taken" <list>), where
`taken` are the node selectors of the groups that go before it.
*/ -}}
{{- define "elastic-local.daemonSet" -}}
{{- $values := .values }}
{{- $object := include "elastic-local.find" (dict "root" .root "kind" "DaemonSet") | fromJson }}
{{- include "elastic-local.nameGroup" (dict "object" $object "name" .name) }}
{{- include "elastic-local.changePods" (dict "root" .root "object" $object "values" $values) }}
{{- $strategy := $values.updateStrategy }}
{{- if eq $strategy.type "OnDelete" }}{{ $strategy = omit $strategy "rollingUpdate" }}{{ end }}
{{- $_ := set $object.spec "updateStrategy" $strategy }}
{{- $pod := $object.spec.template.spec }}
{{- include "elastic-local.keepOff" (dict "pod" $pod "taken" .taken) }}
{{- if not $values.hostIPC }}{{ $_ := unset $pod "hostIPC" }}{{ end }}
{{- $container := first $pod.containers }}
{{- if $values.attach }}
{{- $install := $container.lifecycle.postStart.exec }}
{{- $_ := set $install "command" (append $install.command "--attach") }}
{{- end }}
{{- $folders := dict "plugins" $values.pluginDir }}
{{- with $values.settings.volumesDir }}{{ $_ := set $folders "volumes" . }}{{ end }}
{{- with $values.settings.kubeletDir }}{{ $_ := set $folders "kubelet" . }}{{ end }}
{{- with $values.settings.socket }}{{ $_ := set $folders "socket" (dir .) }}{{ end }}
{{- range $pod.volumes }}
{{- if hasKey $folders .name }}{{ $_ := set .hostPath "path" (get $folders .name) }}{{ end }}
{{- end }}
{{- /* In the container a folder of the node is at the same path, except for the plugin folder. */ -}}
{{- range $container.volumeMounts }}
{{- if and (hasKey $folders .name) (ne .name "plugins") }}{{ $_ := set . "mountPath" (get $folders .name) }}{{ end }}
{{- end }}
{{- if eq (toString $values.settings.flex) "false" }}{{ include "elastic-local.leaveFlexOut" $pod }}{{ end }}
{{- toYaml $object }}
{{- end }}

{{- /* Without the flex driver, the kubelet's plugin folder is not touched, nor made. */ -}}
{{- define "elastic-local.leaveFlexOut" -}}
{{- $container := first .containers }}
{{- $_ := unset $container "lifecycle" }}
{{- $env := list }}
{{- range $container.env }}{{ if ne .name "ELASTIC_LOCAL_PLUGIN_DIR" }}{{ $env = append $env . }}{{ end }}{{ end }}
{{- $_ := set $container "env" $env }}
{{- range list . $container }}
{{- $list := ternary "volumes" "volumeMounts" (hasKey . "volumes") }}
{{- $kept := list }}
{{- range get . $list }}{{ if ne .name "plugins" }}{{ $kept = append $kept . }}{{ end }}{{ end }}
{{- $_ := set . $list $kept }}
{{- end }}
{{- end }}

{{- /* What tells the pods of one group from those of others. The nodes that are in no group are deploy.yaml's. */ -}}
{{- define "elastic-local.nameGroup" -}}
{{- if .name }}
{{- $object := .object }}
{{- $_ := set $object.metadata "name" (printf "%s-%s" $object.metadata.name .name) }}
{{- range list $object.metadata.labels $object.spec.selector.matchLabels $object.spec.template.metadata.labels }}
{{- $_ := set . "volumes.k8s.elastic.co/group" $.name }}
{{- end }}
{{- end }}
{{- end }}

{{- /*
Keeps the pod off the nodes that one of `taken` selects, so that no two groups are ever on one node: every term of its node
affinity, of which one has to hold, is made several, each with one label of each selector that the node must not have.
*/ -}}
{{- define "elastic-local.keepOff" -}}
{{- if .taken }}
{{- $affinity := deepCopy (.pod.affinity | default dict) }}
{{- $ofNodes := $affinity.nodeAffinity | default dict }}
{{- $required := $ofNodes.requiredDuringSchedulingIgnoredDuringExecution | default dict }}
{{- $terms := $required.nodeSelectorTerms | default (list (dict)) }}
{{- range $selector := .taken }}
{{- $made := list }}
{{- range $term := $terms }}
{{- range $key, $value := $selector }}
{{- $rule := dict "key" $key "operator" "NotIn" "values" (list $value) }}
{{- $made = append $made (merge (dict "matchExpressions" (append ($term.matchExpressions | default list) $rule)) $term) }}
{{- end }}
{{- end }}
{{- $terms = $made }}
{{- end }}
{{- $_ := set $ofNodes "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
{{- $_ := set $affinity "nodeAffinity" $ofNodes }}
{{- $_ := set .pod "affinity" $affinity }}
{{- end }}
{{- end }}
