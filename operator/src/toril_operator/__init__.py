"""The operator: kopf watches, a level-triggered reconcile, one poller per Redis, the pure scaler. Never reads payloads."""
