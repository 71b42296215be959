"""The kind JobQueue: handlers → reconcile → observe, apply → status → plan → desired."""
