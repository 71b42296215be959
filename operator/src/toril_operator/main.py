"""The operator's command line: reads flags, sets up logs, runs until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from toril import errors
from toril.telemetry.logs import JsonFormatter, SafeHandler
from toril_operator.manager import Manager
from toril_operator.settings import Settings

logger = logging.getLogger("toril_operator")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="toril_operator", description="Runs the workers of JobQueues.")
    parser.add_argument(
        "--namespaces", default="", metavar="A,B", help="look after JobQueues in these namespaces only; default: in all"
    )
    parser.add_argument(
        "--worker-image", required=True, metavar="IMAGE", help="image of workers whose JobQueue names none"
    )
    parser.add_argument(
        "--worker-image-pull-policy",
        choices=("Always", "IfNotPresent", "Never"),
        help="pull policy that goes with --worker-image; default: Kubernetes' own",
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--http-port", type=int, default=8080, metavar="PORT", help="port of /livez, /readyz and /metrics"
    )
    parser.add_argument(
        "--allow-special-addresses",
        action="store_true",
        help="connect also to a Redis on loopback and link-local addresses; for tests and laptops",
    )
    parser.add_argument(
        "--kubeconfig", metavar="PATH", help="default: the pod's ServiceAccount, else $KUBECONFIG or ~/.kube/config"
    )
    return parser


def read_settings(arguments: Sequence[str] | None = None) -> tuple[Settings, str]:
    """The settings and the log level."""
    given = build_parser().parse_args(arguments)
    settings = Settings(
        namespaces=tuple(name.strip() for name in given.namespaces.split(",") if name.strip()),
        worker_image=given.worker_image,
        worker_image_pull_policy=given.worker_image_pull_policy,
        http_port=given.http_port,
        allow_special_addresses=given.allow_special_addresses,
        kubeconfig=given.kubeconfig,
    )
    return settings, given.log_level


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    settings, level = read_settings(arguments)
    _configure_logs(level)
    try:
        return asyncio.run(_run(settings))
    except errors.SettingsError as problem:
        logger.error("%s", problem)
        return 2


async def _run(settings: Settings) -> int:
    operator = Manager(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    return await operator.run()


def _configure_logs(level: str) -> None:
    """Send everything to standard error. Libraries speak only when something is wrong."""
    handler = SafeHandler(sys.stderr)
    # kopf adds whole settings to its records.
    handler.setFormatter(JsonFormatter(keeps_extra=False))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("asyncio", "aiohttp", "kubernetes", "kopf"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Says at each start that it leaves signals alone, which is what we want.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
