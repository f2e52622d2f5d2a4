{{- define "countersign.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "countersign.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "countersign.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* ConfigMap keys have no slash; where a file belongs is said where it is mounted. */ -}}
{{- define "countersign.policyKey" -}}
{{- replace "/" "__" . -}}
{{- end -}}

{{- /* What would start and be wrong. */ -}}
{{- define "countersign.check" -}}
{{- $v := .Values -}}
{{- $sources := 0 -}}
{{- if $v.policies.files }}{{ $sources = add1 $sources }}{{ end -}}
{{- if $v.policies.existingConfigMap }}{{ $sources = add1 $sources }}{{ end -}}
{{- if $v.policies.volume }}{{ $sources = add1 $sources }}{{ end -}}
{{- if ne (int $sources) 1 -}}
{{- fail "policies: give one of files, existingConfigMap and volume" -}}
{{- end -}}
{{- if and (gt (int $v.replicas) 1) (ne $v.approvals.store "postgres") -}}
{{- fail "replicas: more than one needs approvals.store: postgres, which they share" -}}
{{- end -}}
{{- if and (gt (int $v.replicas) 1) $v.audit.enabled (not $v.audit.keysSecret) -}}
{{- fail "audit.keysSecret: more than one replica needs the same keys; start with one, and take its keys (docs/deployment.md)" -}}
{{- end -}}
{{- if and (eq $v.approvals.store "postgres") (not $v.approvals.postgres.url) -}}
{{- fail "approvals.postgres.url: is required where approvals.store is postgres" -}}
{{- end -}}
{{- if and (not $v.tls.secretName) $v.tls.trustDomains -}}
{{- fail "tls.trustDomains: needs tls.secretName" -}}
{{- end -}}
{{- end -}}
