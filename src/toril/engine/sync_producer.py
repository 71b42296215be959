"""Adds jobs without an event loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from toril import clock, errors
from toril.engine import key_types, scripts
from toril.engine.keys import QueueKeys
from toril.engine.producer import is_cut, parts_of, repeat_pauses
from toril.engine.sync_connection import SyncConnection
from toril.jobs.job import NewJob


class SyncProducer:
    """Adds to one queue over one synchronous connection."""

    def __init__(self, connection: SyncConnection, keys: QueueKeys, *, layout: scripts.Layout = "6") -> None:
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout

    def add(self, jobs: Iterable[NewJob]) -> list[str]:
        """Add jobs and return their ids. As `Producer.add`."""
        ids: list[str] = []
        for part in parts_of(jobs):
            try:
                ids += self._add_part(part)
            except errors.WrongKeyTypeError as problem:
                raise key_types.name_wrong_key_sync(self.connection, self.keys, problem) from None
        return ids

    def _add_part(self, jobs: Sequence[NewJob]) -> list[str]:
        call = scripts.add_jobs(self.keys, jobs, now_ms=clock.now_ms(), layout=self.layout)
        for pause in repeat_pauses(jobs):
            try:
                return self.connection.run(call)
            except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                if not is_cut(problem):
                    raise
                time.sleep(pause)
        return self.connection.run(call)
