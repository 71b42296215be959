"""A manifest's dict becomes a typed spec with defaults; errors name the field. Pure; knows no Kubernetes."""
