"""Which version of BullMQ reads a cron pattern. A module of its own, so that producers do not load the readers."""

from __future__ import annotations

from enum import StrEnum


class Dialect(StrEnum):
    """A version of BullMQ, by the cron parser that it uses."""

    BULLMQ_5 = "5"
    """cron-parser 4."""
    BULLMQ_6 = "6"
    """cron-parser 5."""
