"""Takes jobs in batches, runs processors, keeps locks, finishes, drains. Knows no Kubernetes."""
