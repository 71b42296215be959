"""How a worker's log looks: JSON lines, or lines for people. Lines from inside a job name the job."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, TextIO

from toril import errors
from toril.job_context import current_run

_SHOWN = ("outcome", "duration_ms", "attempt", "retry_in_ms", "suppressed", "error")
_LEVELS = {"WARNING": "warning", "CRITICAL": "error"}


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


class JsonFormatter(logging.Formatter):
    """One JSON object a line; the keys are the same in all of our programs."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A line for people: time, level where it matters, what happened, to which job."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        job = f" [{fields['job_name']} {fields['job_id']}]" if "job_id" in fields else ""
        rest = "".join(f" {key}={fields[key]}" for key in _SHOWN if key in fields)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {level}{record.getMessage()}{job}{rest}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


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


def _timestamp(seconds: float) -> str:
    whole, fraction = divmod(seconds, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"
