{{- /* What the operator does in a namespace that it looks after, and nothing else. */ -}}
{{- define "toril.rules" -}}
- apiGroups: [toril.dev]
  resources: [jobqueues]
  verbs: [list, watch]
- apiGroups: [toril.dev]
  resources: [jobqueues/status, cronjobschedules/status]
  verbs: [patch]
# Patch: the finalizer, by which a deleted schedule stays until what it has in Redis is removed.
- apiGroups: [toril.dev]
  resources: [cronjobschedules]
  verbs: [list, watch, patch]
# To own Deployments in a JobQueue's name, so that they go when it goes.
- apiGroups: [toril.dev]
  resources: [jobqueues/finalizers]
  verbs: [update]
# Server-side apply of a new object asks for both, create and patch. Delete: a queue that gives its workers up.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# One by one, as a JobQueue names them: never listed, never watched.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
