{{/*
The manifests of the project (manifests/, links to the folders that kustomize builds from; config/default says which), with the
values laid over them: there is one source of what is installed. "juicepod.manifest" renders a file; the others change one parsed object in place.
*/}}

{{- define "juicepod.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* (root, folder, namespace?): the objects of a folder's kustomization. With a namespace: rights for that one only. */ -}}
{{- define "juicepod.folder" -}}
{{- $kustomization := .root.Files.Get (printf "%s/kustomization.yaml" .folder) | fromYaml -}}
{{- range $kustomization.resources -}}
{{- include "juicepod.manifest" (dict "root" $.root "file" (printf "%s/%s" $.folder .) "namespace" $.namespace) -}}
{{- end -}}
{{- end -}}

{{- /* (root, file, namespace?): the objects of a file, in the release's namespace, those left out that the values switch off. */ -}}
{{- define "juicepod.manifest" -}}
{{- $root := .root -}}
{{- $text := $root.Files.Get .file | replace "juicepod-system" $root.Release.Namespace -}}
{{- if not $text }}{{ fail (printf "%s is not in the chart" .file) }}{{ end -}}
{{- range $part := regexSplit "(?m)^---\\s*$" $text -1 -}}
{{- $object := fromYaml $part -}}
{{- if hasKey $object "Error" }}{{ fail (printf "%s: %s" $.file $object.Error) }}{{ end -}}
{{- if $object.kind -}}
{{- $isTenant := eq (include "juicepod.isTenant" $object) "true" -}}
{{- if $.namespace -}}
{{- if $isTenant }}{{ include "juicepod.tenant" $object }}{{ end -}}
{{- end -}}
{{- $isWanted := eq (include "juicepod.wanted" (dict "root" $root "object" $object)) "true" -}}
{{- if ternary $isTenant (and $isWanted (not (and $isTenant $root.Values.watchNamespaces))) (not (empty $.namespace)) }}
{{- include "juicepod.adapt" (dict "root" $root "object" $object "namespace" ($.namespace | default $root.Release.Namespace)) }}
---
{{ toYaml $object }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether an object is a right in the whole cluster that can be given in namespaces instead. */ -}}
{{- define "juicepod.isTenant" -}}
{{- if and (hasPrefix "ClusterRole" .kind) (hasKey .metadata.labels "app.kubernetes.io/name") (ne .metadata.name "juicepod-webhook-certificates") -}}
true
{{- end -}}
{{- end -}}

{{- /* Turns such a right into one of a namespace. */ -}}
{{- define "juicepod.tenant" -}}
{{- $_ := set . "kind" (trimPrefix "Cluster" .kind) -}}
{{- if .roleRef -}}
{{- $_ := set .roleRef "kind" "Role" -}}
{{- else if or (eq .metadata.name "juicepod-operator") (eq .metadata.name "juicepod-webhook") -}}
{{- $_ := set . "rules" (append .rules (dict "apiGroups" (list "") "resources" (list "namespaces") "verbs" (list "get"))) -}}
{{- end -}}
{{- end -}}

{{- define "juicepod.wanted" -}}
{{- $values := .root.Values -}}
{{- $object := .object -}}
{{- $name := $object.metadata.name -}}
{{- if and (eq $object.kind "NetworkPolicy") (not $values.networkPolicy.enabled) -}}
{{- else if and (eq $object.kind "PodDisruptionBudget") (not (index $values (trimPrefix "juicepod-" $name)).podDisruptionBudget.enabled) -}}
{{- else if and (ne $values.certificates.source "self") (eq $name "juicepod-webhook-certificates") -}}
{{- else -}}
true
{{- end -}}
{{- end -}}

{{- define "juicepod.adapt" -}}
{{- $root := .root -}}
{{- $object := .object -}}
{{- $metadata := $object.metadata -}}
{{- $labels := dict "app.kubernetes.io/instance" $root.Release.Name "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- $_ := set $metadata "labels" (merge (deepCopy ($metadata.labels | default dict)) $labels) -}}
{{- if has $object.kind (list "ServiceAccount" "Role" "RoleBinding" "Deployment" "Service" "PodDisruptionBudget" "NetworkPolicy" "ConfigMap" "Issuer" "Certificate") -}}
{{- $_ := set $metadata "namespace" .namespace -}}
{{- end -}}
{{- $component := trimPrefix "juicepod-" $metadata.name -}}
{{- if eq $object.kind "Deployment" -}}
{{- include "juicepod.deployment" (dict "root" $root "object" $object "component" $component) -}}
{{- else if eq $object.kind "PodDisruptionBudget" -}}
{{- include "juicepod.budget" (dict "root" $root "object" $object "component" $component) -}}
{{- else if eq $object.kind "MutatingWebhookConfiguration" -}}
{{- include "juicepod.configuration" (dict "root" $root "object" $object) -}}
{{- end -}}
{{- end -}}

{{- define "juicepod.budget" -}}
{{- $budget := (index .root.Values .component).podDisruptionBudget -}}
{{- $spec := dict "selector" .object.spec.selector -}}
{{- if and .root.Values.highAvailability (eq (toString $budget.minAvailable) "1") -}}
{{- $_ := set $spec "maxUnavailable" 1 -}}
{{- else -}}
{{- range $key := list "minAvailable" "maxUnavailable" -}}
{{- if not (kindIs "invalid" (index $budget $key)) }}{{ $_ := set $spec $key (index $budget $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $_ := set .object "spec" $spec -}}
{{- end -}}

{{- define "juicepod.configuration" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- if eq $values.certificates.source "cert-manager" -}}
{{- $_ := set .object.metadata "annotations" (dict "cert-manager.io/inject-ca-from" (printf "%s/juicepod-webhook-tls" $root.Release.Namespace)) -}}
{{- end -}}
{{- range $webhook := .object.webhooks -}}
{{- $_ := set $webhook "timeoutSeconds" (int $values.webhook.timeoutSeconds) -}}
{{- if eq $values.certificates.source "secret" -}}
{{- $_ := set $webhook.clientConfig "caBundle" (b64enc $values.certificates.caBundle) -}}
{{- end -}}
{{- if $values.watchNamespaces -}}
{{- $only := dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" $values.watchNamespaces -}}
{{- $_ := set $webhook.namespaceSelector "matchExpressions" (append $webhook.namespaceSelector.matchExpressions $only) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "juicepod.deployment" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .component -}}
{{- $image := include "juicepod.image" $root -}}
{{- $isWebhook := eq .component "webhook" -}}
{{- $template := .object.spec.template -}}
{{- $pod := $template.spec -}}
{{- $container := index $pod.containers 0 -}}
{{- $_ := set $container "image" $image -}}
{{- if ne $root.Values.image.pullPolicy "IfNotPresent" }}{{ $_ := set $container "imagePullPolicy" $root.Values.image.pullPolicy }}{{ end -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- $args := list -}}
{{- range $arg := $container.args -}}
{{- /* The image that is given to pods is that of the release, whatever the argument is called. */ -}}
{{- $args = append $args (regexReplaceAll "^(--[a-z-]*image)=.*$" $arg (printf "${1}=%s" $image)) -}}
{{- end -}}
{{- if ne $values.logLevel "info" }}{{ $args = append $args (printf "--log-level=%s" $values.logLevel) }}{{ end -}}
{{- if $isWebhook -}}
{{- range $prefix := $values.allowImages }}{{ $args = append $args (printf "--allow-image=%s" $prefix) }}{{ end -}}
{{- range $name := $values.sidecarPullSecrets }}{{ $args = append $args (printf "--image-pull-secret=%s" $name) }}{{ end -}}
{{- if ne $values.sidecarPullPolicy "IfNotPresent" }}{{ $args = append $args (printf "--image-pull-policy=%s" $values.sidecarPullPolicy) }}{{ end -}}
{{- if not $values.podSecurityCheck }}{{ $args = append $args "--no-pod-security-check" }}{{ end -}}
{{- if ne $root.Values.certificates.source "self" -}}
{{- $args = append $args "--cert-dir=/etc/juicepod/tls" -}}
{{- $secret := ternary "juicepod-webhook-tls" $root.Values.certificates.secretName (eq $root.Values.certificates.source "cert-manager") -}}
{{- $mount := dict "name" "tls" "mountPath" "/etc/juicepod/tls" "readOnly" true -}}
{{- $_ := set $container "volumeMounts" (prepend $container.volumeMounts $mount) -}}
{{- $_ := set $pod "volumes" (prepend $pod.volumes (dict "name" "tls" "secret" (dict "secretName" $secret "defaultMode" 288))) -}}
{{- end -}}
{{- end -}}
{{- with $root.Values.watchNamespaces }}{{ $args = append $args (printf "--watch-namespaces=%s" (join "," .)) }}{{ end -}}
{{- $_ := set $container "args" (concat $args $values.extraArgs) -}}
{{- $replicas := int $values.replicas -}}
{{- if $root.Values.highAvailability -}}
{{- $more := $root.Files.Get (printf "manifests/config/high-availability/%s.yaml" .component) | fromYaml -}}
{{- $_ := set $pod "priorityClassName" $more.spec.template.spec.priorityClassName -}}
{{- $spread := list -}}
{{- range $constraint := $more.spec.template.spec.topologySpreadConstraints -}}
{{- if not (hasKey $constraint "$patch") }}{{ $spread = append $spread $constraint }}{{ end -}}
{{- end -}}
{{- $_ := set $pod "topologySpreadConstraints" $spread -}}
{{- if eq $replicas 2 }}{{ $replicas = 3 }}{{ end -}}
{{- end -}}
{{- $_ := set .object.spec "replicas" $replicas -}}
{{- with $root.Values.imagePullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" -}}
{{- with index $values $key }}{{ $_ := set $pod $key . }}{{ end -}}
{{- end -}}
{{- with $values.podLabels }}{{ $_ := set $template.metadata "labels" (merge (deepCopy $template.metadata.labels) .) }}{{ end -}}
{{- with $values.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end -}}
{{- end -}}
