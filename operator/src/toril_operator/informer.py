"""Keeps the object cache true: lists everything again and again, records what the watches see, and enqueues the objects
that a change concerns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from toril import clock, errors, kube, periodic
from toril_operator import labels
from toril_operator.object_cache import Key, Kind, ObjectCache, Seen
from toril_operator.work_queue import WorkQueue

RESOURCES = {
    Kind.POD: kube.PODS,
    Kind.DEPLOYMENT: kube.DEPLOYMENTS,
    Kind.JOB_QUEUE: kube.JOB_QUEUES,
    Kind.CRON_JOB_SCHEDULE: kube.CRON_JOB_SCHEDULES,
}
"""What is listed, in this order: what belongs to an object before the object."""
SELECTORS = {Kind.POD: labels.POD_SELECTOR, Kind.DEPLOYMENT: labels.MANAGED_BY_SELECTOR}
"""Only objects with these labels are listed."""
RELIST_SECONDS = 300.0
"""Between two lists. A list mends whatever the watches have missed."""
RELIST_RETRY_SECONDS = 5.0
"""Between a list that failed and the next one."""
BLIND_MS = 600_000
"""Without a list for so long, although the API server answers, the operator itself is at fault: it ends and is started
anew."""

logger = logging.getLogger(__name__)


class Informer:
    """Fills the cache and the work queues. Used on one event loop."""

    def __init__(
        self,
        cache: ObjectCache,
        queues: Mapping[Kind, WorkQueue[Key]],
        *,
        namespaces: Sequence[str],
        before_list: Callable[[kube.KubeClient], Awaitable[None]],
        on_blind: Callable[[], None],
    ) -> None:
        """Args:
        namespaces: which are listed; empty = all.
        before_list: awaited before each list. When it raises KubeError, the list is tried again later.
        on_blind: called when no list has worked for `BLIND_MS` although the API server answers.
        """
        self.has_types = False
        """Whether the API server knows the resources of toril.dev."""
        self.problem = ""
        """Why the last list failed."""
        self.listed = asyncio.Event()
        """Set after the first list."""
        self._cache = cache
        self._queues = queues
        self._namespaces = namespaces
        self._before_list = before_list
        self._on_blind = on_blind
        self._relist = asyncio.Event()
        self._listed_ms = clock.monotonic_ms()

    def relist(self) -> None:
        """List everything now."""
        self._relist.set()

    async def list_loop(self, client: kube.KubeClient) -> None:
        """List every `RELIST_SECONDS`, sooner after a failure and when `relist` is called."""
        await periodic.repeat(
            periodic.Pace(RELIST_SECONDS, retry_seconds=RELIST_RETRY_SECONDS),
            lambda: self.run_once(client),
            expected=errors.KubeError,
            wake=self._relist,
        )

    async def run_once(self, client: kube.KubeClient) -> None:
        """List everything, enqueue every object, and record for `/readyz` how the list went. Raises KubeError."""
        try:
            await self._list(client)
        except errors.KubeError as problem:
            logger.warning("objects could not be listed: %s", problem)
            self.problem = str(problem)
            self.has_types = self.has_types and not isinstance(problem, errors.KubeNotFoundError)
            if clock.monotonic_ms() - self._listed_ms > BLIND_MS and await client.is_alive():
                logger.error("no list for %d s although the API server lives: ending", BLIND_MS // 1000)
                self._on_blind()
            raise
        self._listed_ms = clock.monotonic_ms()
        self.has_types = True
        self.listed.set()

    async def _list(self, client: kube.KubeClient) -> None:
        await self._before_list(client)
        for kind, resource in RESOURCES.items():
            known_before = self._cache.versions(kind)
            found = [
                item
                for namespace in self._namespaces or (None,)
                async for item in client.list(resource, namespace, SELECTORS.get(kind))
            ]
            self._enqueue(kind, self._cache.replace(kind, found, known_before=known_before))
        for kind, queue in self._queues.items():
            for key in self._cache.keys(kind):
                queue.add(key)

    def record(self, seen: Seen) -> None:
        """Record what a watch has seen."""
        self._enqueue(seen.kind, self._cache.record(seen))

    def enqueue_schedules_of(self, job_queue: Key) -> None:
        """Enqueue the CronJobSchedules that name a JobQueue."""
        self._enqueue(Kind.CRON_JOB_SCHEDULE, self._cache.schedules_of(job_queue))

    def _enqueue(self, kind: Kind, keys: Iterable[Key]) -> None:
        """Enqueue what a change concerns. `keys`: schedules where `kind` is CronJobSchedule, else JobQueues."""
        if kind is Kind.CRON_JOB_SCHEDULE:
            for key in keys:
                self._queues[Kind.CRON_JOB_SCHEDULE].add(key)
            return
        for key in keys:
            self._queues[Kind.JOB_QUEUE].add(key)
            if kind is Kind.JOB_QUEUE:
                self.enqueue_schedules_of(key)
