"""What is measured, and what it should reach: each measure yields rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import adding, processing, sizes
from benchmarks.processing import Contender


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    share: float
    """Of the jobs of a full run."""
    runs: int

    def jobs(self, count: int) -> int:
        return max(200, int(count * self.share))


@dataclass(frozen=True)
class Goal:
    """What a ratio to BullMQ, or a number of ours, should reach."""

    limit: float
    at_least: bool = True

    def is_reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table: what both sides reached in each run, in order."""

    what: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = field(default=())
    """Of BullMQ in the same runs; empty where a number is compared with another one of ours, or with nothing."""
    goal: Goal | None = None
    """For the ratio to theirs; without theirs for our number."""
    digits: int = 0


def bulk(scale: Scale) -> Iterator[Row]:
    jobs = scale.jobs(50_000)
    runs = [adding.compare("bulk", {"toril": "bulk"}, jobs, per_call=500) for _ in range(scale.runs)]
    yield _row("bulk add, 500 a call", "jobs/s", runs, "toril", "rate", Goal(5))
    yield _row("Redis CPU per job added in bulk", "µs", runs, "toril", "redis_us", digits=1)
    yield _row("client CPU per job added in bulk", "µs", runs, "toril", "client_us", digits=1)
    yield _row("memory per waiting job", "bytes", runs, "toril", "bytes", Goal(1.0, at_least=False))


def single(scale: Scale) -> Iterator[Row]:
    ways = {"async": "async", "sync": "sync"}
    with processing.awake():
        runs = [adding.compare("single", ways, scale.jobs(10_000)) for _ in range(scale.runs)]
    yield _row("single awaited add, async client", "jobs/s", runs, "async", "rate", Goal(1.3))
    yield _row("single awaited add, sync client", "jobs/s", runs, "sync", "rate", Goal(1.3))
    yield _row("Redis CPU per job added singly", "µs", runs, "async", "redis_us", digits=1)
    yield _row("client CPU per job added singly, async", "µs", runs, "async", "client_us", digits=1)


def no_op_100(scale: Scale) -> Iterator[Row]:
    yield from _no_op(scale, 40_000, 100, Goal(3))


def no_op_10(scale: Scale) -> Iterator[Row]:
    yield from _no_op(scale, 25_000, 10, Goal(2))


def no_op_1(scale: Scale) -> Iterator[Row]:
    with processing.awake():
        yield from _no_op(scale, 8_000, 1, Goal(1.2))


def no_op_100_aof(scale: Scale) -> Iterator[Row]:
    yield from _no_op(scale, 40_000, 100, Goal(2.5), aof=True)


def _no_op(scale: Scale, count: int, concurrency: int, goal: Goal, *, aof: bool = False) -> Iterator[Row]:
    jobs = scale.jobs(count)
    runs = [
        _take_turns(processing.no_op(), lambda who: processing.process(who, jobs, concurrency, aof=aof))
        for _ in range(scale.runs)
    ]
    setting = f"concurrency {concurrency}{', AOF everysec' if aof else ''}"
    for way in ("async", "def"):
        yield _row(f"no-op processing, {setting}, `{way}`", "jobs/s", runs, way, "rate", goal)
    redis_goal = Goal(0.4, at_least=False) if concurrency == 100 and not aof else None
    for way in ("async", "def"):
        yield _row(f"Redis CPU per job, {setting}, `{way}`", "µs", runs, way, "redis_us", redis_goal, digits=1)
        yield _row(f"worker CPU per job, {setting}, `{way}`", "µs", runs, way, "client_us", digits=1)


def latency(scale: Scale) -> Iterator[Row]:
    jobs = scale.jobs(1_500)
    with processing.awake():
        runs = [
            _take_turns(processing.latency(), lambda who: processing.pick_up(who, jobs, gap_seconds=0.002))
            for _ in range(scale.runs)
        ]
    for way in ("async", "def"):
        for point in ("p50", "p99"):
            yield _row(
                f"pick-up latency, {point}, `{way}`", "ms", runs, way, point, Goal(1.0, at_least=False), digits=2
            )


def busy(scale: Scale) -> Iterator[Row]:
    jobs = scale.jobs(40_000)
    runs = [
        _take_turns(processing.waiting(), lambda who: processing.busy(who, jobs, 100, wait_ms=5))
        for _ in range(scale.runs)
    ]
    for way in ("bullmq", "async", "def"):
        shares = [run[way]["busy"] * 100 for run in runs]
        goal = None if way == "bullmq" else Goal(95)
        yield Row(f"busy slots, handlers of 5 ms, concurrency 100, `{way}`", "%", shares, goal=goal, digits=1)
    for way in ("async", "def"):
        yield _row(f"handlers of 5 ms, concurrency 100, `{way}`", "jobs/s", runs, way, "rate")


def big(scale: Scale) -> Iterator[Row]:
    """Cost in a queue with a million jobs against that with a thousand."""
    many = scale.jobs(1_000_000)
    runs = [sizes.compare(many) for _ in range(max(1, scale.runs - 1))]
    for place in sizes.PLACES:
        for step in sizes.STEPS:
            ratios = [run[place, step] for run in runs]
            what = f"cost of {step} with {many:,} {place} jobs ÷ with 1,000"
            yield Row(what, "×", ratios, goal=Goal(1.2, at_least=False), digits=2)


ALL: Mapping[str, Callable[[Scale], Iterator[Row]]] = {
    "bulk": bulk,
    "single": single,
    "no-op-100": no_op_100,
    "no-op-10": no_op_10,
    "no-op-1": no_op_1,
    "no-op-100-aof": no_op_100_aof,
    "latency": latency,
    "busy": busy,
    "sizes": big,
}


def _take_turns(
    contenders: Sequence[Contender], measure: Callable[[Contender], dict[str, float]]
) -> dict[str, dict[str, float]]:
    return {contender.name: measure(contender) for contender in contenders}


def _row(
    what: str,
    unit: str,
    runs: Sequence[Mapping[str, Mapping[str, float]]],
    way: str,
    number: str,
    goal: Goal | None = None,
    digits: int = 0,
) -> Row:
    ours, theirs = [run[way][number] for run in runs], [run["bullmq"][number] for run in runs]
    return Row(what, unit, ours, theirs, goal, digits)
