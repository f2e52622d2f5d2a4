{{- define "countersign.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{- /* What the values say, as variables: they lie above the configuration file. */ -}}
{{- define "countersign.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: COUNTERSIGN_SERVER__LISTEN
  value: '["0.0.0.0:50051"]'
- name: COUNTERSIGN_SERVER__OPERATORS
  value: 0.0.0.0:{{ .Values.operators.port }}
- name: COUNTERSIGN_POLICY__DIR
  value: /etc/countersign/policies
- name: COUNTERSIGN_APPROVALS__STORE
  value: {{ .Values.approvals.store }}
{{- if eq .Values.approvals.store "sqlite" }}
- name: COUNTERSIGN_APPROVALS__PATH
  value: /var/lib/countersign/approvals.sqlite
{{- end }}
{{- if eq .Values.approvals.store "postgres" }}
{{- with .Values.approvals.postgres }}
- name: COUNTERSIGN_APPROVALS__URL
  value: {{ .url | quote }}
- name: COUNTERSIGN_APPROVALS__TLS
  value: {{ .tls | quote }}
{{- if .passwordSecret }}
- name: COUNTERSIGN_APPROVALS__PASSWORD_FILE
  value: /etc/countersign/database/{{ .passwordKey }}
{{- end }}
{{- if .caConfigMap }}
- name: COUNTERSIGN_APPROVALS__CA_FILE
  value: /etc/countersign/database-ca/{{ .caKey }}
{{- end }}
{{- end }}
{{- end }}
- name: COUNTERSIGN_AUDIT__ENABLED
  value: {{ .Values.audit.enabled | quote }}
- name: COUNTERSIGN_AUDIT__PATH
  value: /var/lib/countersign/audit
- name: COUNTERSIGN_AUDIT__HEADS
  value: /var/lib/{{ ternary "countersign-heads" "countersign" (not (empty .Values.audit.headsVolume)) }}/heads-$(POD_NAME).txt
{{- if .Values.tls.secretName }}
- name: COUNTERSIGN_TLS__CERTIFICATE
  value: /etc/countersign/tls/tls.crt
- name: COUNTERSIGN_TLS__KEY
  value: /etc/countersign/tls/tls.key
{{- if ne .Values.tls.clients "none" }}
- name: COUNTERSIGN_TLS__CLIENT_CA
  value: /etc/countersign/tls/ca.crt
- name: COUNTERSIGN_TLS__CLIENT
  value: {{ .Values.tls.clients }}
{{- end }}
{{- with .Values.tls.trustDomains }}
- name: COUNTERSIGN_TLS__TRUST_DOMAINS
  value: {{ toJson . | quote }}
{{- end }}
{{- end }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ .Release.Namespace }},k8s.pod.name=$(POD_NAME)
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
