"""The operator: kopf watches, level-triggered reconcile, one poller per Redis, the pure scaler. Reads no payloads."""
