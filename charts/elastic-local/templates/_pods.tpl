{{- define "elastic-local.image" -}}
{{- $image := .Values.image }}
{{- $version := printf ":%s" ($image.tag | default .Chart.AppVersion) }}
{{- with $image.digest }}{{ $version = printf "@%s" . }}{{ end }}
{{- printf "%s%s" $image.repository $version }}
{{- end }}

{{- /* A value as an environment variable has it: numbers come as floats, and none gets an exponent. */ -}}
{{- define "elastic-local.text" -}}
{{- $isWhole := false }}
{{- if kindIs "float64" . }}{{ $isWhole = eq . (floor .) }}{{ end }}
{{- if $isWhole }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* Sets an environment variable of a container: (dict "container" <dict> "name" <name> "value" <text>). */ -}}
{{- define "elastic-local.setVariable" -}}
{{- $name := .name }}
{{- $kept := list }}
{{- range .container.env }}{{ if ne .name $name }}{{ $kept = append $kept . }}{{ end }}{{ end }}
{{- $_ := set .container "env" (append $kept (dict "name" $name "value" .value)) }}
{{- end }}

{{- /*
Changes a DaemonSet or a Deployment by what the values of daemon and provisioner have in common:
(dict "root" $ "object" <dict> "values" <dict>).
*/ -}}
{{- define "elastic-local.changePods" -}}
{{- $values := .values }}
{{- $template := .object.spec.template }}
{{- $pod := $template.spec }}
{{- $container := first $pod.containers }}
{{- $_ := set $container "image" (include "elastic-local.image" .root) }}
{{- with .root.Values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end }}
{{- with .root.Values.imagePullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- $_ := set $container "resources" $values.resources }}
{{- $_ := set $pod "nodeSelector" (merge (dict) $values.nodeSelector $pod.nodeSelector) }}
{{- with $values.affinity }}{{ $_ := set $pod "affinity" . }}{{ end }}
{{- range $name := list "tolerations" "priorityClassName" }}
{{- $_ := unset $pod $name }}
{{- with get $values $name }}{{ $_ := set $pod $name . }}{{ end }}
{{- end }}
{{- /* What a selector goes by stays. */ -}}
{{- $_ := set $template.metadata "labels" (merge (dict) $template.metadata.labels $values.podLabels) }}
{{- with $values.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end }}
{{- range $name, $value := $values.settings }}
{{- $variable := printf "ELASTIC_LOCAL_%s" (snakecase $name | upper) }}
{{- include "elastic-local.setVariable" (dict "container" $container "name" $variable "value" (include "elastic-local.text" $value)) }}
{{- end }}
{{- range $values.env }}{{ $_ := set $container "env" (append $container.env .) }}{{ end }}
{{- include "elastic-local.changePort" (dict "container" $container "settings" $values.settings) }}
{{- end }}

{{- /*
The port of the container, and its probes, by `httpAddress`. The kubelet reaches what listens on all addresses of the pod;
otherwise it runs the program, which asks on the socket.
*/ -}}
{{- define "elastic-local.changePort" -}}
{{- $container := .container }}
{{- if hasKey .settings "httpAddress" }}
{{- $address := .settings.httpAddress }}
{{- $_ := unset $container "ports" }}
{{- with regexFind "[0-9]+$" $address }}
{{- $_ := set $container "ports" (list (dict "name" "metrics" "containerPort" (int .))) }}
{{- end }}
{{- if not (hasPrefix ":" $address) }}
{{- range $name := list "startupProbe" "readinessProbe" "livenessProbe" }}
{{- with get $container $name }}
{{- $question := trimPrefix "/" .httpGet.path }}
{{- $_ := unset . "httpGet" }}
{{- $_ := set . "exec" (dict "command" (list "elastic-local" $question)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
