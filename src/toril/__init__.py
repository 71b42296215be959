"""Toril: job queues in BullMQ's format, for producers and workers in Python, and as Kubernetes objects."""

__version__ = "0.1.0"
