"""Log records as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

MAX_TEXT = 4000


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message; for an exception its type and stack."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:MAX_TEXT],
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = record.exc_info[0].__name__
            entry["stack"] = self.formatException(record.exc_info)[-MAX_TEXT:]
        return json.dumps(entry, ensure_ascii=False)


def configure(level: str) -> None:
    """Send everything to standard error. Libraries speak only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("asyncio", "aiohttp", "kubernetes", "kopf"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Says at each start that it leaves signals alone, which is what we want.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
