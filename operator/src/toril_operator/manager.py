"""The running operator: makes the parts, starts them in order, watches over them, ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from toril import clock, errors, kube
from toril.telemetry import probe_server, zone_data
from toril_operator import labels
from toril_operator.controller import Controller
from toril_operator.cronjobschedule.apply import Applier as ScheduleApplier
from toril_operator.cronjobschedule.observe import Observer as ScheduleObserver
from toril_operator.cronjobschedule.reconcile import Reconciler as ScheduleReconciler
from toril_operator.event_recorder import EventRecorder
from toril_operator.jobqueue.apply import Applier
from toril_operator.jobqueue.defaults import DefaultsKeeper, read_scope
from toril_operator.jobqueue.drainer import Drainer
from toril_operator.jobqueue.observe import Observer
from toril_operator.jobqueue.plan import WorkerDefaults
from toril_operator.jobqueue.reconcile import Reconciler
from toril_operator.leadership import Leadership
from toril_operator.metrics import CONTENT_TYPE, Metrics
from toril_operator.object_cache import Key, Kind, ObjectCache, Seen
from toril_operator.polling.pollers import Pollers
from toril_operator.polling.targets import Snapshot
from toril_operator.settings import Settings
from toril_operator.status_writer import StatusWriter
from toril_operator.watcher import Watcher, wait_for_types
from toril_operator.work_queue import WorkQueue

RECONCILERS = {Kind.JOB_QUEUE: 8, Kind.CRON_JOB_SCHEDULE: 4}
"""Objects of a kind that are looked at side by side."""
RESOURCES = {
    Kind.POD: kube.PODS,
    Kind.DEPLOYMENT: kube.DEPLOYMENTS,
    Kind.JOB_QUEUE: kube.JOB_QUEUES,
    Kind.CRON_JOB_SCHEDULE: kube.CRON_JOB_SCHEDULES,
}
"""What is listed, in this order: what belongs to an object before the object."""
SELECTORS = {Kind.POD: labels.POD_SELECTOR, Kind.DEPLOYMENT: labels.MANAGED_BY_SELECTOR}
"""Of these only ours are asked for."""
RELIST_SECONDS = 300.0
RELIST_RETRY_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
LONGEST_HEARTBEAT_MS = 30_000
LONGEST_TURN_MS = 120_000
"""An object that has been worked on for so long is stuck: every call on the way has a deadline far below."""
BLIND_MS = 600_000
"""Without a list for so long, although the API server lives, the fault is ours: end, and be started anew."""
WRITE_SECONDS = 5.0
"""At the end: what is being written may take so long."""

logger = logging.getLogger(__name__)


class Manager:
    """Made and run on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._relist = asyncio.Event()
        self._listed = asyncio.Event()
        self._has_types = False
        self._list_problem = ""
        self._listed_ms = clock.monotonic_ms()
        self._beat_ms = clock.monotonic_ms()
        self._cache = ObjectCache()
        self._queues: dict[Kind, WorkQueue[Key]] = {kind: WorkQueue() for kind in RECONCILERS}
        self._metrics = Metrics()
        self._metrics.work_queue_depth.set_function(lambda: sum(map(len, self._queues.values())))
        self._pollers = Pollers(self._queue_was_read, allow_special=settings.allow_special_addresses)
        self._defaults_keeper = DefaultsKeeper(self._cache, self._pollers)
        self._watcher: Watcher | None = None

    def stop(self, exit_code: int = 0) -> None:
        """Ask for an orderly end."""
        self._exit_code = exit_code
        self._stopping.set()

    async def run(self) -> int:
        """Run until `stop`; the exit code.

        Raises:
            SettingsError: it is not known how to reach Kubernetes.
            OSError: the HTTP port is taken.
        """
        http = probe_server.HttpProbe({"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._render})
        client = await kube.KubeClient.connect(self._settings.kubeconfig)
        try:
            await http.start(self._settings.http_port)
            await self._serve(client)
        finally:
            await http.close()
            await client.close()
        logger.info("ended")
        return self._exit_code

    async def _serve(self, client: kube.KubeClient) -> None:
        logger.info("Kubernetes at %s", client.place)
        logger.info("time zones: release %s", zone_data.describe())
        leadership = Leadership()
        status_writers = {
            kind: StatusWriter(
                client, leadership, self._metrics.status_writes.inc, resource=RESOURCES[kind], kind=str(kind)
            )
            for kind in RECONCILERS
        }
        events = EventRecorder(client, leadership, os.environ.get("POD_NAME") or socket.gethostname())
        reconcilers = {
            Kind.JOB_QUEUE: self._job_queues(client, status_writers[Kind.JOB_QUEUE], events).reconcile,
            Kind.CRON_JOB_SCHEDULE: self._schedules(client, status_writers[Kind.CRON_JOB_SCHEDULE], events).reconcile,
        }
        turns = {
            kind: Controller(kind, self._queues[kind], reconcile, leadership=leadership, metrics=self._metrics)
            for kind, reconcile in reconcilers.items()
        }
        parts: list[Coroutine[Any, Any, None]] = [self._heartbeat(), events.run()]
        parts += [writer.run() for writer in status_writers.values()]
        tasks = [asyncio.create_task(self._guarded(part)) for part in parts]
        tasks.append(asyncio.create_task(self._guarded(self._work(client, turns))))
        await self._stopping.wait()
        logger.info("ending")
        for queue in self._queues.values():
            queue.close()
        if self._watcher is not None:
            await self._watcher.stop()
        await self._finish_writes(status_writers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pollers.close()

    def _job_queues(self, client: kube.KubeClient, status_writer: StatusWriter, events: EventRecorder) -> Reconciler:
        queue = self._queues[Kind.JOB_QUEUE]
        drainer = Drainer(self._cache, self._pollers)
        return Reconciler(
            cache=self._cache,
            queue=queue,
            observer=Observer(client, self._cache, self._pollers, status_writer, queue.add, drainer.needs_queue),
            applier=Applier(client, self._cache, self._pollers),
            drainer=drainer,
            defaults_keeper=self._defaults_keeper,
            status_writer=status_writer,
            events=events,
            metrics=self._metrics,
            defaults=WorkerDefaults(self._settings.worker_image, self._settings.worker_image_pull_policy),
        )

    def _schedules(
        self, client: kube.KubeClient, status_writer: StatusWriter, events: EventRecorder
    ) -> ScheduleReconciler:
        allow_special = self._settings.allow_special_addresses
        return ScheduleReconciler(
            cache=self._cache,
            queue=self._queues[Kind.CRON_JOB_SCHEDULE],
            observer=ScheduleObserver(self._cache, self._pollers, status_writer),
            applier=ScheduleApplier(client, self._cache, self._pollers, allow_special=allow_special),
            status_writer=status_writer,
            events=events,
        )

    async def _guarded(self, part: Coroutine[Any, Any, None]) -> None:
        """A part that ends by an error is a fault of ours: end the process, so that it is started anew."""
        try:
            await part
        except Exception:
            logger.exception("a part of the operator has failed")
            self.stop(exit_code=1)

    async def _work(self, client: kube.KubeClient, turns: Mapping[Kind, Controller]) -> None:
        await wait_for_types(client)
        self._has_types = True
        self._watcher = Watcher(
            self._settings.kubeconfig, self._settings.namespaces, self._note, self._watcher_restarted
        )
        self._watcher.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._list_loop(client))
            # Nothing is decided before everything is known: an object's rivals, and whose Deployment is whose.
            await self._listed.wait()
            group.create_task(self._defaults_keeper.sweep_loop())
            for kind, count in RECONCILERS.items():
                for _ in range(count):
                    group.create_task(self._queues[kind].process_loop(turns[kind].process))

    async def _list_loop(self, client: kube.KubeClient) -> None:
        while True:
            self._relist.clear()
            try:
                await self._list(client)
            except errors.KubeError as problem:
                logger.warning("objects could not be listed: %s", problem)
                self._list_problem = str(problem)
                self._has_types = self._has_types and not isinstance(problem, errors.KubeNotFoundError)
                pause = RELIST_RETRY_SECONDS
                if clock.monotonic_ms() - self._listed_ms > BLIND_MS and await client.is_alive():
                    logger.error("no list for %d s although the API server lives: ending", BLIND_MS // 1000)
                    self.stop(exit_code=1)
            else:
                self._listed_ms = clock.monotonic_ms()
                self._has_types = True
                self._listed.set()
                pause = RELIST_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._relist.wait()
            except TimeoutError:
                continue

    async def _list(self, client: kube.KubeClient) -> None:
        """Read everything and look at all of it: the remedy for whatever a watch has lost."""
        if self._defaults_keeper.scope is None:
            self._defaults_keeper.scope = await read_scope(client, self._settings.namespaces)
        for kind, resource in RESOURCES.items():
            known_before = self._cache.versions(kind)
            found = [
                item
                for namespace in self._settings.namespaces or (None,)
                async for item in client.list(resource, namespace, SELECTORS.get(kind))
            ]
            self._concern(kind, self._cache.replace(kind, found, known_before=known_before))
        for kind, queue in self._queues.items():
            for key in self._cache.keys(kind):
                queue.add(key)

    def _note(self, seen: Seen) -> None:
        self._concern(seen.kind, self._cache.note(seen))

    def _concern(self, kind: Kind, keys: Iterable[Key]) -> None:
        """Have everything looked at that a change of this kind concerns."""
        schedules = self._queues[Kind.CRON_JOB_SCHEDULE]
        for key in keys:
            if kind is Kind.CRON_JOB_SCHEDULE:
                schedules.add(key)
                continue
            self._queues[Kind.JOB_QUEUE].add(key)
            if kind is Kind.JOB_QUEUE:
                self._concern(Kind.CRON_JOB_SCHEDULE, self._cache.schedules_of(key))

    def _queue_was_read(self, key: Key, snapshot: Snapshot, previous: Snapshot | None) -> None:
        self._queues[Kind.JOB_QUEUE].add(key)
        if previous is None or previous.reason != snapshot.reason:
            # Its schedules can be written again, or not any more.
            self._concern(Kind.CRON_JOB_SCHEDULE, self._cache.schedules_of(key))

    def _watcher_restarted(self, reason: str) -> None:
        self._metrics.kopf_restarts.labels(reason).inc()
        self._relist.set()

    async def _finish_writes(self, status_writers: Iterable[StatusWriter]) -> None:
        """Let turns that are going on end, and write the statuses that they leave."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                for queue in self._queues.values():
                    await queue.wait_idle()
                for writer in status_writers:
                    await writer.flush()
        except TimeoutError:
            logger.warning("not everything could be written before the end")

    async def _heartbeat(self) -> None:
        while True:
            self._beat_ms = clock.monotonic_ms()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _livez(self) -> probe_server.Response:
        """Fails for faults of ours only: neither Redis nor the API server may have us started anew."""
        problems = [f"the poller of Redis {endpoint} stands still" for endpoint in self._pollers.stuck()]
        if clock.monotonic_ms() - self._beat_ms > LONGEST_HEARTBEAT_MS:
            problems.append("the main loop stands still")
        problems += [
            f"a {kind} is being looked at for too long"
            for kind, queue in self._queues.items()
            if queue.longest_processing_ms() > LONGEST_TURN_MS
        ]
        if self._watcher is not None and not self._watcher.is_alive and not self._stopping.is_set():
            problems.append("the watches have ended")
        return (500, probe_server.PLAIN, "; ".join(problems) + "\n") if problems else (200, probe_server.PLAIN, "ok\n")

    def _readyz(self) -> probe_server.Response:
        if not self._has_types:
            return 503, probe_server.PLAIN, "the resources of toril.dev are not there yet\n"
        if not self._listed.is_set():
            reason = f": {self._list_problem}" if self._list_problem else ""
            return 503, probe_server.PLAIN, f"the objects have not been listed yet{reason}\n"
        return 200, probe_server.PLAIN, "ok\n"

    def _render(self) -> probe_server.Response:
        return 200, CONTENT_TYPE, self._metrics.render()
