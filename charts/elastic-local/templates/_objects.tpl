{{- /*
The objects of a file below files/, as JSON, in the namespace of the release: (dict "root" $ "file" <name>). The files are
those that people without Helm apply, so that both always get the same.
*/ -}}
{{- define "elastic-local.read" -}}
{{- $namespace := .root.Release.Namespace }}
{{- $text := .root.Files.Get (printf "files/%s" .file) | replace "system:serviceaccount:elastic-local:" (printf "system:serviceaccount:%s:" $namespace) }}
{{- $objects := list }}
{{- range regexSplit "(?m)^---$" $text -1 }}
{{- $object := fromYaml . }}
{{- if $object.Error }}{{ fail $object.Error }}{{ end }}
{{- if $object.metadata.namespace }}{{ $_ := set $object.metadata "namespace" $namespace }}{{ end }}
{{- range $object.subjects }}{{ $_ := set . "namespace" $namespace }}{{ end }}
{{- $objects = append $objects $object }}
{{- end }}
{{- toJson $objects }}
{{- end }}

{{- /* The first object of that kind in deploy.yaml, as JSON: (dict "root" $ "kind" <kind>). */ -}}
{{- define "elastic-local.find" -}}
{{- $kind := .kind }}
{{- $found := list }}
{{- range include "elastic-local.read" (dict "root" .root "file" "deploy.yaml") | fromJsonArray }}
{{- if eq .kind $kind }}{{ $found = append $found . }}{{ end }}
{{- end }}
{{- first $found | toJson }}
{{- end }}

{{- /* All objects of a file, as YAML. */ -}}
{{- define "elastic-local.print" -}}
{{- range include "elastic-local.read" . | fromJsonArray }}
---
{{ toYaml . }}
{{- end }}
{{- end }}
