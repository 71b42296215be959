"""Jobs as a take hands them out, for tests without Redis."""

from __future__ import annotations

import json
from typing import Any

from toril.engine.worker import TakenJob


def taken_job(job_id: str = "1", *, opts: Any = None, **fields: Any) -> TakenJob:
    """A job at its first start. `fields`: those of its hash, beyond the usual; `opts` may also be raw text."""
    stored = {
        "name": "send",
        "data": "{}",
        "opts": opts if isinstance(opts, str) else json.dumps(opts or {}),
        "timestamp": "1000",
        "processedOn": "3500",
        "ats": "1",
        **fields,
    }
    return TakenJob(job_id, {name.encode(): str(value).encode() for name, value in stored.items()}, "w:token:1")
