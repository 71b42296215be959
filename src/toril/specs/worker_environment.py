"""The environment variables of a worker that do not depend on where Redis is.

The operator and local mode set them, `toril.worker.settings` reads them. `TORIL_REDIS_…` is not here: a pod gets the
password by a reference to a Secret (`toril_operator.jobqueue.desired`), a local process from `toril dev`
(`toril.cli.dev.environment`).
"""

from __future__ import annotations

import json
from typing import Any

from toril.specs.jobqueue import JobQueueSpec, PausedLayout


def build_worker_environment(spec: JobQueueSpec) -> dict[str, str]:
    """Name → value, without optional variables that are not set in the spec."""
    worker = spec.worker
    variables = {
        "TORIL_QUEUE": spec.queue_name,
        "TORIL_PREFIX": spec.prefix,
        "TORIL_PROCESSOR": _json(worker.processor),
        "TORIL_CONCURRENCY": str(worker.concurrency),
        "TORIL_DRAIN_SECONDS": str(worker.drain_seconds),
        "TORIL_NAMESPACE": spec.namespace,
        "TORIL_JOBQUEUE": spec.name,
    }
    if spec.paused_layout is not PausedLayout.V6:
        variables["TORIL_PAUSED_LAYOUT"] = spec.paused_layout.value
    if worker.options:
        variables["TORIL_WORKER_OPTIONS"] = _json(worker.options)
    return variables


def _json(value: Any) -> str:
    """JSON with sorted keys: the same value gives the same text, so that no pod is replaced without a change."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
