"""The running operator: makes the parts, starts them in order, watches over them, ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from toril import kube
from toril.telemetry import probe_server, zone_data
from toril_operator.controller import Controller
from toril_operator.cronjobschedule.apply import Applier as ScheduleApplier
from toril_operator.cronjobschedule.observe import Observer as ScheduleObserver
from toril_operator.cronjobschedule.reconcile import Reconciler as ScheduleReconciler
from toril_operator.event_recorder import EventRecorder
from toril_operator.health import Health
from toril_operator.informer import RESOURCES, Informer
from toril_operator.jobqueue.apply import Applier
from toril_operator.jobqueue.defaults import DefaultsKeeper, read_scope
from toril_operator.jobqueue.drainer import Drainer
from toril_operator.jobqueue.observe import Observer
from toril_operator.jobqueue.plan import WorkerDefaults
from toril_operator.jobqueue.reconcile import Reconciler
from toril_operator.leadership import Leadership
from toril_operator.metrics import CONTENT_TYPE, Metrics
from toril_operator.object_cache import Key, Kind, ObjectCache
from toril_operator.polling.pollers import Pollers
from toril_operator.polling.targets import Snapshot
from toril_operator.settings import Settings
from toril_operator.status_writer import StatusWriter
from toril_operator.watcher import Watcher, wait_for_types
from toril_operator.work_queue import WorkQueue

RECONCILERS = {Kind.JOB_QUEUE: 8, Kind.CRON_JOB_SCHEDULE: 4}
"""How many objects of a kind are reconciled side by side."""
WRITE_SECONDS = 5.0
"""At the end: what is being written may take so long."""

logger = logging.getLogger(__name__)


class Manager:
    """Made and run on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._cache = ObjectCache()
        self._queues: dict[Kind, WorkQueue[Key]] = {kind: WorkQueue() for kind in RECONCILERS}
        self._metrics = Metrics()
        self._metrics.work_queue_depth.set_function(lambda: sum(map(len, self._queues.values())))
        self._pollers = Pollers(self._queue_was_read, allow_special=settings.allow_special_addresses)
        self._defaults_keeper = DefaultsKeeper(self._cache, self._pollers)
        self._informer = Informer(
            self._cache,
            self._queues,
            namespaces=settings.namespaces,
            before_list=self._read_scope,
            on_blind=lambda: self.stop(exit_code=1),
        )
        self._health = Health(self._queues, self._pollers, self._informer, have_watches_ended=self._have_watches_ended)
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
        http = probe_server.HttpProbe(
            {"/livez": self._health.livez, "/readyz": self._health.readyz, "/metrics": self._render}
        )
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
        controllers = {
            kind: Controller(kind, self._queues[kind], reconcile, leadership=leadership, metrics=self._metrics)
            for kind, reconcile in reconcilers.items()
        }
        parts: list[Coroutine[Any, Any, None]] = [self._health.beat_loop(), events.run()]
        parts += [writer.run() for writer in status_writers.values()]
        tasks = [asyncio.create_task(self._guarded(part)) for part in parts]
        tasks.append(asyncio.create_task(self._guarded(self._work(client, controllers))))
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

    async def _work(self, client: kube.KubeClient, controllers: Mapping[Kind, Controller]) -> None:
        await wait_for_types(client)
        self._informer.has_types = True
        self._watcher = Watcher(
            self._settings.kubeconfig, self._settings.namespaces, self._informer.record, self._watcher_restarted
        )
        self._watcher.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.list_loop(client))
            # Nothing is decided before everything is known: an object's rivals, and whose Deployment is whose.
            await self._informer.listed.wait()
            group.create_task(self._defaults_keeper.sweep_loop())
            for kind, count in RECONCILERS.items():
                for _ in range(count):
                    group.create_task(self._queues[kind].process_loop(controllers[kind].process))

    async def _read_scope(self, client: kube.KubeClient) -> None:
        if self._defaults_keeper.scope is None:
            self._defaults_keeper.scope = await read_scope(client, self._settings.namespaces)

    def _queue_was_read(self, key: Key, snapshot: Snapshot, previous: Snapshot | None) -> None:
        self._queues[Kind.JOB_QUEUE].add(key)
        if previous is None or previous.reason != snapshot.reason:
            # Its schedules can be written again, or not any more.
            self._informer.enqueue_schedules_of(key)

    def _watcher_restarted(self, reason: str) -> None:
        self._metrics.kopf_restarts.labels(reason).inc()
        self._informer.relist()

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

    def _have_watches_ended(self) -> bool:
        return self._watcher is not None and not self._watcher.is_alive and not self._stopping.is_set()

    def _render(self) -> probe_server.Response:
        return 200, CONTENT_TYPE, self._metrics.render()
