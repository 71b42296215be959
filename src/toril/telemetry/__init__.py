"""What a program shows of itself: log lines and the server of its probes. No Redis, no Kubernetes."""
