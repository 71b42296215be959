// What keeps a pod's namespaces while its containers come and go.
module toril.dev/tests/cluster/pause

go 1.26.0
