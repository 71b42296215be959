"""What a worker is told about its queue: the variables that do not depend on where Redis is.

Written by the operator and by local mode, read by `toril.worker.settings`. Redis itself is said by whoever starts the
worker (`TORIL_REDIS_…`), since its password must come from a Secret and never through here.
"""

from __future__ import annotations

import json
from typing import Any

from toril.specs.jobqueue import JobQueueSpec, PausedLayout


def build_worker_environment(spec: JobQueueSpec) -> dict[str, str]:
    """The variables by name; those that would say nothing are left out."""
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
    """The same text for the same value, so that a worker's pod is not replaced without a reason."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
