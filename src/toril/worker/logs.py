"""Where a worker's log goes. Lines from inside a job name the job."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from toril import errors
from toril.tasks.context import current_run
from toril.telemetry.logs import JsonFormatter, SafeHandler, TextFormatter, keep

NAMES = ("toril", "toril.worker", "toril.queue")
"""Our loggers that users' configurations do not disable by leaving them out."""


class LastHandler(SafeHandler):
    """Writes what no handler of the root logger would: a user's configuration may leave it without any."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)


def own_stderr() -> TextIO:
    """Standard error, for the log alone: it stays open when a job closes `sys.stderr` or its descriptor."""
    try:
        encoding = sys.stderr.encoding
        return os.fdopen(os.dup(2), "w", encoding=encoding, errors="backslashreplace")
    except (OSError, AttributeError):
        # There is none.
        return sys.stderr


def configure(stream: TextIO, *, queue: str, worker: str) -> None:
    """Send all logging of this process to `stream`. Called once, by the program and never by the library.

    For people where `stream` is a terminal, else JSON; `TORIL_LOG_FORMAT` (`text`, `json`) decides otherwise.
    `TORIL_LOG_LEVEL` is `debug`, `info` (the default), `warning` or `error`.

    A user's `dictConfig` may take the root logger over: our lines then go where that sends them.

    Raises:
        SettingsError: one of the two variables has another value.
    """
    form = _choice("TORIL_LOG_FORMAT", ("text", "json"), "text" if stream.isatty() else "json")
    level = _choice("TORIL_LOG_LEVEL", ("debug", "info", "warning", "error"), "info").upper()
    fixed: dict[str, Any] = {"queue": queue, "worker": worker}
    if namespace := os.environ.get("TORIL_NAMESPACE"):
        fixed["namespace"] = namespace

    def context() -> Mapping[str, Any]:
        run = current_run.get()
        if run is None:
            return fixed
        job = run.record
        return {**fixed, "job_id": job.id, "job_name": job.name, "attempt": job.attempts_made + 1}

    formatter = TextFormatter(context) if form == "text" else JsonFormatter(context)
    handler, last = SafeHandler(stream), LastHandler(stream)
    for each in (handler, last):
        each.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    keep(*NAMES)
    ours = logging.getLogger("toril")
    ours.setLevel(level)
    ours.handlers = [last]


def _choice(variable: str, known: Sequence[str], default: str) -> str:
    value = (os.environ.get(variable) or default).lower()
    if value not in known:
        raise errors.SettingsError(f"{variable} must be one of {', '.join(known)}")
    return value
