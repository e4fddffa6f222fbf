{{- define "orderstream.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Of one part: what selects its pods, which never changes. */}}
{{- define "orderstream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "orderstream.scrape" -}}
{{- if not .Values.serviceMonitor.enabled }}
prometheus.io/scrape: "true"
prometheus.io/port: "9090"
{{- end }}
{{- end }}

{{- define "orderstream.image" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Of `serve` or `work`: its settings, and the files of its secrets. */}}
{{- define "orderstream.env" -}}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $key := .secretEnv }}
- name: {{ $name }}
  value: /secrets/{{ $key }}
{{- end }}
{{- end }}

{{- define "orderstream.secretItems" -}}
{{- range $name, $key := .secretEnv }}
- key: {{ $key }}
  path: {{ $key }}
{{- end }}
{{- end }}
