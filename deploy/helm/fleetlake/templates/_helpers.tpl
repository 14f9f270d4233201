{{- define "fleetlake.name" -}}
{{- if contains "fleetlake" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-fleetlake" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "fleetlake.labels" -}}
app.kubernetes.io/name: fleetlake
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels by which a part is selected: call with (list . "stream"). */}}
{{- define "fleetlake.selector" -}}
app.kubernetes.io/name: fleetlake
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "fleetlake.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{/* The head of a pod's metadata. A change of the configuration restarts the pod. */}}
{{- define "fleetlake.podMetadata" -}}
labels:
  {{- include "fleetlake.selector" . | nindent 2 }}
annotations:
  checksum/config: {{ include (print (index . 0).Template.BasePath "/configmap.yaml") (index . 0) | sha256sum }}
  {{- with (index . 0).Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "fleetlake.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "fleetlake.volumes" -}}
- name: config
  configMap: {name: {{ include "fleetlake.name" . }}}
- name: tmp
  emptyDir: {}
{{- with .Values.secret }}
- name: secret
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* A stage's container: (dict "root" . "name" "delta" "args" (list …) "port" 9100 "resources" … "env" … "ports" …). */}}
{{- define "fleetlake.container" -}}
- name: {{ .name }}
  image: {{ include "fleetlake.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ toJson .args }}
  env:
    - {name: FLEETLAKE_CONFIG, value: /etc/fleetlake/fleetlake.toml}
    - {name: FLEETLAKE_PIPELINE__DATA, value: /data}
    - {name: FLEETLAKE_PIPELINE__HEALTH_HOST, value: 0.0.0.0}
    - {name: FLEETLAKE_PIPELINE__HEALTH_PORT, value: {{ .port | quote }}}
    {{- if .root.Values.rules }}
    - {name: FLEETLAKE_STREAM__RULES_FILE, value: /etc/fleetlake/rules.yaml}
    {{- end }}
    {{- range .env }}
    - {{ toJson . }}
    {{- end }}
    {{- with .root.Values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - {name: {{ printf "h-%s" .name | trunc 15 }}, containerPort: {{ .port }}}
    {{- range .ports }}
    - {{ toJson . }}
    {{- end }}
  startupProbe:
    httpGet: {path: /livez, port: {{ .port }}}
    periodSeconds: 5
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /livez, port: {{ .port }}}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  readinessProbe:
    httpGet: {path: /readyz, port: {{ .port }}}
    periodSeconds: 10
    timeoutSeconds: 5
  resources: {{ toYaml .resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: config, mountPath: /etc/fleetlake, readOnly: true}
    - {name: tmp, mountPath: /tmp}
    - {name: data, mountPath: /data}
    {{- if .root.Values.secret }}
    - {name: secret, mountPath: /run/secrets/fleetlake, readOnly: true}
    {{- end }}
{{- end }}

{{- define "fleetlake.claim" -}}
volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .className }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .size }}}}
{{- end }}
