"""Where a worker's log goes. Lines from inside a job name the job."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, TextIO

from toril import errors
from toril.job_context import current_run
from toril.telemetry.logs import JsonFormatter, TextFormatter


class JobFilter(logging.Filter):
    """Gives each record `fields`: its own, those of the worker, and those of the job it was written in."""

    def __init__(self, fixed: dict[str, Any]) -> None:
        super().__init__()
        self._fixed = fixed

    def filter(self, record: logging.LogRecord) -> bool:
        run = current_run.get()
        fields = dict(self._fixed)
        if run is not None:
            job = run.record
            fields |= {"job_id": job.id, "job_name": job.name, "attempt": job.attempts_made + 1}
        record.fields = fields | getattr(record, "fields", {})
        return True


def configure(stream: TextIO, *, queue: str, worker: str) -> None:
    """Send all logging of this process to `stream`. Called once, by the program and never by the library.

    For people where `stream` is a terminal, else JSON; `TORIL_LOG_FORMAT` (`text`, `json`) decides otherwise.
    `TORIL_LOG_LEVEL` is `debug`, `info` (the default), `warning` or `error`.

    Raises:
        SettingsError: one of the two variables has another value.
    """
    form = _choice("TORIL_LOG_FORMAT", ("text", "json"), "text" if stream.isatty() else "json")
    level = _choice("TORIL_LOG_LEVEL", ("debug", "info", "warning", "error"), "info")
    fixed: dict[str, Any] = {"queue": queue, "worker": worker}
    if namespace := os.environ.get("TORIL_NAMESPACE"):
        fixed["namespace"] = namespace
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if form == "text" else JsonFormatter())
    handler.addFilter(JobFilter(fixed))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _choice(variable: str, known: Sequence[str], default: str) -> str:
    value = (os.environ.get(variable) or default).lower()
    if value not in known:
        raise errors.SettingsError(f"{variable} must be one of {', '.join(known)}")
    return value
