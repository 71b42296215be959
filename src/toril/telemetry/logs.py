"""Log lines of workers and operator: one JSON object a line, or lines for people.

Both programs use the same keys. `extra={…}` of a log call is kept. A log call never raises: a value that cannot be
formatted is replaced by a text, so that no job fails because of a log line.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

MAX_MESSAGE = 4000
MAX_TRACEBACK = 16_000
"""Characters of a message and of a traceback; of a longer traceback the end is kept, which names the error."""
OURS = ("toril", "toril_operator")
"""First parts of the names of our own loggers."""
_SHOWN = ("outcome", "duration_ms", "attempt", "retry_in_ms", "suppressed", "error_type", "error")
_LEVELS = {"WARNING": "warning", "CRITICAL": "error"}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

Context = Callable[[], Mapping[str, Any]]
"""Returns fields for the line that is being written, such as those of the running job."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts`, `level`, `event`, `logger`, the context, the record's `extra`, `error` with a
    traceback, `stack`. A key of `extra` that one of these has already becomes `extra_…`."""

    def __init__(self, context: Context = dict, *, keeps_extra: bool = True) -> None:
        """Args: keeps_extra: whether the `extra` of loggers that are not ours is kept, too."""
        super().__init__()
        self._context = context
        self._keeps_extra = keeps_extra

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "event": _message(record)[:MAX_MESSAGE],
            "logger": record.name,
            **self._context(),
        }
        is_ours = _is_ours(record)
        extra = _extra(record) if is_ours or self._keeps_extra else {}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)[-MAX_TRACEBACK:]
        if record.stack_info:
            line["stack"] = record.stack_info[-MAX_TRACEBACK:]
        if is_ours:
            # `extra` may hold a shorter `event`: the message repeats the fields for formatters that show nothing else.
            line |= extra
        else:
            line |= {f"extra_{key}" if key in line else str(key): value for key, value in extra.items()}
        return _json(line)


class TextFormatter(logging.Formatter):
    """A line for people: time, level from warning on, event, job, and some of the fields."""

    def __init__(self, context: Context = dict) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        extra = _extra(record)
        fields = {**self._context(), **extra}
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        job = " ".join(plain(fields[key]) for key in ("job_name", "job_id") if key in fields)
        shown = _SHOWN if _is_ours(record) else tuple(extra)
        rest = "".join(f" {key}={plain(extra[key])}" for key in shown if key in extra)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        event = plain(extra["event"]) if _is_ours(record) and "event" in extra else _message(record)
        text = f"{clock} {level}{event}{f' [{job}]' if job else ''}{rest}"
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


class SafeHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream. Never raises: neither for a value nor for a stream that is closed."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except BaseException as problem:
            # SystemExit too: the `__str__` of a user's object runs here.
            line = _json({
                "ts": _timestamp(record.created), "level": record.levelname.lower(), "event": plain(record.msg),
                "logger": plain(record.name), "log_error": type(problem).__name__,
            })  # fmt: skip
        try:
            self.stream.write(line + self.terminator)
            self.flush()
        except (OSError, ValueError):
            return  # closed, or its reader is gone


class KeptLogger(logging.Logger):
    """A logger that `disable_existing_loggers` does not disable.

    That option of `logging.config` is true by default, so a user's `dictConfig` would silence the worker. Settings for
    this logger by name hold, and so does `logger.disabled = True`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name != "disabled" or sys._getframe(1).f_globals.get("__name__") != "logging.config":
            super().__setattr__(name, value)


def keep(*names: str) -> None:
    """Make these loggers `KeptLogger`s."""
    for name in names:
        logging.getLogger(name).__class__ = KeptLogger


def plain(value: Any) -> str:
    """Any value as text; the name of its type when `__str__` raises."""
    try:
        return str(value)[:MAX_MESSAGE]
    except BaseException:
        # As in `SafeHandler.emit`.
        return f"<{type(value).__name__}>"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except BaseException:
        # The arguments do not fit the format.
        return f"{plain(record.msg)} {plain(record.args)}"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra={…}` has added."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _json(line: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(line, ensure_ascii=False, default=plain, allow_nan=False)
    except BaseException:
        # NaN, circular or deep values, keys that are no text: only the values with these become text.
        text = json.dumps({key: _whole(value) for key, value in line.items()}, ensure_ascii=False)
    # Lone surrogates, as in names of files, cannot be encoded.
    return text.encode(errors="backslashreplace").decode()


def _whole(value: Any) -> Any:
    """The value if it is JSON, else as text."""
    try:
        json.dumps(value, allow_nan=False)
    except BaseException:
        return plain(value)
    return value


def _timestamp(seconds: float) -> str:
    whole, fraction = divmod(seconds, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"
