"""How log lines look: one JSON object a line, or lines for people. The keys are the same in all of our programs."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

MAX_MESSAGE = 4000
MAX_TRACEBACK = 16_000
"""Characters of a message and of a traceback; of a longer traceback the end is kept, which names the error."""
_SHOWN = ("outcome", "duration_ms", "attempt", "retry_in_ms", "suppressed", "error")
_LEVELS = {"WARNING": "warning", "CRITICAL": "error"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts`, `level`, `event`, `logger`, the record's `fields`, and `error` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "event": record.getMessage()[:MAX_MESSAGE],
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)[-MAX_TRACEBACK:]
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


def _timestamp(seconds: float) -> str:
    whole, fraction = divmod(seconds, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"
