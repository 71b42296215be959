"""Log lines, and the HTTP server of probes and metrics. No Redis, no Kubernetes."""
