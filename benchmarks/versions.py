"""Side by side with another checkout of Toril: has a change made anything slower?

    make bench-versions OTHER=../earlier         nine pairs a measure, about a quarter of an hour
    python -m benchmarks.versions ../earlier --pairs 3 --only bulk

The other checkout needs its own `make setup`. Both sides take turns, who begins changes with each pair, and each step
has a fresh redis-server. A ratio is this checkout's to the other's, above 1 is better: a measure counts as lost when
the median of the ratios and their upper quartile lie below 1. Nothing here fails because something is slow.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import adding, contenders, processing, servers
from benchmarks.processing import Contender
from support.waiting import wait_until
from toril.engine.keys import QueueKeys

Measure = Callable[[Path], Mapping[str, float]]
"""Measures one checkout; answers numbers of which more is better."""


def _add(op: str, jobs: int, per_call: int, root: Path) -> dict[str, float]:
    with processing.awake():
        found = adding.add(partial(contenders.toril_producer, root), op, jobs, per_call)
    return _numbers(f"{op} add", found)


def _process(way: str, jobs: int, concurrency: int, root: Path) -> dict[str, float]:
    contender = Contender(way, f"{way}-none", partial(contenders.toril_worker, root=root))
    found = processing.process(contender, jobs, concurrency)
    where = f"no-op `{way}`, concurrency {concurrency}"
    return _numbers(where, found)


def _numbers(what: str, found: Mapping[str, float]) -> dict[str, float]:
    return {
        f"{what}, jobs/s": found["rate"],
        f"{what}, jobs a CPU second of Redis": 1e6 / found["redis_us"],
        f"{what}, jobs a CPU second of ours": 1e6 / found["client_us"],
    }


def _start(root: Path) -> dict[str, float]:
    """A worker's start until its first job is completed, and an import, both without Python's own start."""
    bare = _seconds(root, "pass")
    with servers.fresh() as server:
        processing.fill(server, "async-none", 1, processing.DATA)
        key = QueueKeys("async-none").completed
        began = time.monotonic()
        with contenders.toril_worker(server.url, "async-none", 1, root):
            wait_until(lambda: server.client.zcard(key) == 1, "the first job", interval_seconds=0.002)
            seconds = time.monotonic() - began
    return {
        "starts of a worker a second": 1 / (seconds - bare),
        "`from toril import Queue` a second": 1 / (_seconds(root, "from toril import Queue") - bare),
    }


def _seconds(root: Path, code: str) -> float:
    """How long an interpreter takes for some code: the least of five."""
    argv = [contenders.python_of(root), "-c", code]
    taken = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run(argv, cwd=root, env=contenders.inherited(), check=True)
        taken.append(time.monotonic() - began)
    return min(taken)


MEASURES: Mapping[str, Measure] = {
    "start": _start,
    "bulk": partial(_add, "bulk", 40_000, 500),
    "async": partial(_add, "async", 6_000, 1),
    "sync": partial(_add, "sync", 6_000, 1),
    "async-100": partial(_process, "async", 30_000, 100),
    "def-100": partial(_process, "def", 30_000, 100),
    "async-10": partial(_process, "async", 15_000, 10),
    "async-1": partial(_process, "async", 5_000, 1),
    "def-1": partial(_process, "def", 5_000, 1),
}


def compare(measure: Measure, other: Path, pairs: int) -> dict[str, list[float]]:
    """Ratios of this checkout to the other by number, one a pair."""
    ratios: dict[str, list[float]] = {}
    for pair in range(pairs):
        sides = [contenders.ROOT, other]
        found = {side: measure(side) for side in (sides if pair % 2 else reversed(sides))}
        for name, ours in found[contenders.ROOT].items():
            ratios.setdefault(name, []).append(ours / found[other][name])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="another checkout, with its own virtual environment")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", action="append", choices=list(MEASURES))
    arguments = parser.parse_args()
    other = arguments.other.resolve()
    if not Path(contenders.python_of(other)).exists():
        parser.error(f"{other} has no virtual environment: run `make setup` there")
    for name in arguments.only or MEASURES:
        for what, ratios in compare(MEASURES[name], other, arguments.pairs).items():
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            verdict = "  LOST" if middle < 1 and high < 1 else ""
            print(f"{what:60} {middle:5.2f}  quartiles {low:.2f} to {high:.2f}{verdict}", flush=True)


if __name__ == "__main__":
    main()
