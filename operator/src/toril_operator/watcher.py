"""kopf in a thread of its own, started anew whenever it ends.

kopf ends at faults that we must outlive (a 404 on a watch, an error inside a stream, a refused token), and it cancels
every task of its event loop when it does; hence the thread, and a new loop for each start.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import kopf

from toril import errors, kube
from toril_operator.cronjobschedule import handlers as schedule_handlers
from toril_operator.jobqueue import handlers
from toril_operator.object_cache import Seen

LOGIN_MINUTES = 10
"""Credentials are read anew after so long, so that a replaced token is taken up."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
DISCOVERY_SECONDS = 2.0
HEALTHY_SECONDS = 300.0
"""After a run of this length the next pause is the first one again."""

logger = logging.getLogger(__name__)


async def wait_for_types(client: kube.KubeClient) -> None:
    """Wait until the server has what is watched: kopf never finds out about a type that comes after its start."""
    wanted = [kube.JOB_QUEUES, kube.CRON_JOB_SCHEDULES]
    while True:
        try:
            while await client.serves(wanted[0]):
                wanted.pop(0)
                if not wanted:
                    return
            logger.warning("waiting for %s.toril.dev: the API server has none; install the CRDs", wanted[0].plural)
        except errors.KubeError as problem:
            logger.warning("waiting for %s.toril.dev: %s", wanted[0].plural, problem)
        await asyncio.sleep(DISCOVERY_SECONDS)


class _EndlessPauses:
    """kopf's pauses between attempts: it gives up and ends when they are used up, so they never are."""

    def __iter__(self) -> Iterator[float]:
        for pause in (0.5, 1.0, 2.0, 5.0):
            yield pause * random.uniform(0.9, 1.1)
        while True:
            yield 10.0 * random.uniform(0.9, 1.1)


class Watcher:
    """Tells of changes on the main event loop."""

    def __init__(
        self,
        kubeconfig: str | None,
        namespaces: Sequence[str],
        on_change: Callable[[Seen], None],
        on_restart: Callable[[str], None],
    ) -> None:
        """
        Args:
            namespaces: to watch; none = all.
            on_change: called on the loop that this object is made on.
            on_restart: likewise, with the reason in one word, when kopf has ended by itself: changes may be lost.
        """
        self._kubeconfig = kubeconfig
        self._namespaces = tuple(namespaces)
        self._on_change = on_change
        self._on_restart = on_restart
        self._main_loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether kopf runs or is about to be started again."""
        return self._thread.is_alive()

    async def stop(self, timeout_seconds: float = 5.0) -> None:
        """End kopf and wait for its thread."""
        self._stopping.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, timeout_seconds)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = "ended"
            try:
                asyncio.run(self._once())
            except asyncio.CancelledError:
                reason = "cancelled"
            except Exception as problem:
                reason = type(problem).__name__
                logger.warning("the watches ended: %s", problem)
            if self._stopping.is_set():
                return
            self._call(self._on_restart, reason)
            if time.monotonic() - began > HEALTHY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._stopping.wait(pause * random.uniform(0.9, 1.1))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _once(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopping.is_set():
            return
        client = await kube.KubeClient.connect(self._kubeconfig)
        try:
            await wait_for_types(client)
        finally:
            await client.close()
        registry = kopf.OperatorRegistry()
        settings = build_settings()
        handlers.register(registry, settings, self._publish)
        schedule_handlers.register(registry, self._publish)

        @kopf.on.login(registry=registry)
        async def log_in(**_: Any) -> kopf.ConnectionInfo:
            return await self._credentials()

        where: dict[str, Any] = {"namespaces": self._namespaces} if self._namespaces else {"clusterwide": True}
        # Said, or kopf looks for a name of the process's user, who in a container has none.
        identity: Any = "toril-operator"
        await kopf.operator(registry=registry, settings=settings, standalone=True, identity=identity, **where)

    async def _credentials(self) -> _Connection:
        try:
            found = await kube.read_credentials(self._kubeconfig)
        except errors.SettingsError as problem:
            raise kopf.LoginError(str(problem)) from None
        return _Connection(
            server=found.server,
            ca_path=found.ca_file,
            insecure=not found.is_verified,
            certificate_path=found.certificate_file,
            private_key_path=found.key_file,
            scheme=found.scheme,
            token=found.token,
            # As the other half goes, `toril.kube`: kopf knows no networks and no ports in NO_PROXY.
            proxy_url=found.proxy_url,
            trust_env=False,
            expiration=self._expiration(found.expires_at_ms),
        )

    @staticmethod
    def _expiration(expires_at_ms: int | None) -> datetime.datetime:
        """When kopf is to log in anew: before the credentials end, and now and then anyway."""
        latest = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=LOGIN_MINUTES)
        if expires_at_ms is None:
            return latest
        return min(latest, datetime.datetime.fromtimestamp(expires_at_ms / 1000, datetime.UTC))

    def _publish(self, seen: Seen) -> None:
        self._call(self._on_change, seen)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        """Have something called on the main loop, which may have ended by now."""
        if not self._main_loop.is_closed():
            self._main_loop.call_soon_threadsafe(function, argument)


class _Connection(kopf.ConnectionInfo):
    """kopf's, which takes the certificates that `toril.kube` takes."""

    def as_ssl_context(self) -> ssl.SSLContext:
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def build_settings() -> kopf.OperatorSettings:
    """kopf as a watcher and nothing else: it writes no object, posts no event and gives up on nothing."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.inactivity_timeout = 70.0
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 5
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = _EndlessPauses()
    settings.queueing.worker_limit = 64
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 2.0
    settings.persistence.consistency_timeout = 0
    # Never written. Should a release of kopf write it all the same, it is seen whose it is.
    settings.persistence.finalizer = "toril.dev/kopf-unused"
    settings.execution.max_workers = 2
    settings.process.ultimate_exiting_timeout = 10
    return settings
