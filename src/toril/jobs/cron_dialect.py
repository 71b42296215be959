"""Whose reading of a cron pattern counts; apart from `cron_dialects`, so that producers need not load the readers."""

from __future__ import annotations

from enum import StrEnum


class Dialect(StrEnum):
    """A version of BullMQ, for the cron parser that it uses."""

    BULLMQ_5 = "5"
    BULLMQ_6 = "6"
