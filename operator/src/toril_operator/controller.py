"""What every turn of every kind has around it: only the leader makes one, and what failed is tried again, later."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from toril import errors
from toril_operator.leadership import Leadership
from toril_operator.metrics import Metrics
from toril_operator.object_cache import Key, Kind
from toril_operator.work_queue import WorkQueue

logger = logging.getLogger(__name__)


class Controller:
    """Those of one kind."""

    def __init__(
        self,
        kind: Kind,
        queue: WorkQueue[Key],
        reconcile: Callable[[Key], Awaitable[bool]],
        *,
        leadership: Leadership,
        metrics: Metrics,
    ) -> None:
        """Args: reconcile: one turn; answers whether all of it could be done."""
        self._kind = kind
        self._queue = queue
        self._reconcile = reconcile
        self._leadership = leadership
        self._metrics = metrics

    async def process(self, key: Key) -> None:
        """Look at one object; never raises. What failed is looked at again, later each time."""
        began = time.perf_counter()
        try:
            if not self._leadership.is_leader() or await self._reconcile(key):
                result = "success"
                self._queue.forget_failures(key)
            else:
                result = "refused"
                self._queue.add_failed(key)
        except errors.KubeConflictError:
            result = "conflict"
            self._queue.add_failed(key)
        except errors.KubeError as problem:
            result = "error"
            logger.warning("%s %s: again in %.1f s: %s", self._kind, key, self._queue.add_failed(key), problem)
        except Exception:
            result = "bug"
            logger.exception("%s %s: again in %.1f s", self._kind, key, self._queue.add_failed(key))
        self._metrics.reconciles.labels(str(self._kind), result).inc()
        self._metrics.reconcile_seconds.observe(time.perf_counter() - began)
