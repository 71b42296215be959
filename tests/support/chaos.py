"""A queue under attack: worker processes of several makes are killed and put to sleep, Redis is restarted.

Every job's handler notes its starts and ends in an append-only file (`log`), with the machine's monotonic clock, and
the chaos notes what it did; `judge` compares the two. A job may be started again only if a process that held it was
killed, or slept longer than its locks last, or if Redis was away meanwhile.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from support import workers
from support.node_peer import NodePeer
from support.redis_server import RedisServer
from support.waiting import wait_until_async

LOCK_MS = 6000
RENEW_MS = 1000
CHECK_MS = 1000
NAP_SECONDS = (0.1, 0.6)
"""Short enough for every lock to be renewed in time, with seconds to spare for a busy machine."""
SLEEP_SECONDS = (7.5, 8.5)
"""Long enough for others to take the jobs over."""
WAKE_SECONDS = 5.0
"""Within so long after a sleep, a process may still do what it was about to do: a busy machine lets it wait for a
CPU."""
START_SECONDS = 90.0
SECOND_NS = 1_000_000_000
OPTIONS = {
    "lockDuration": LOCK_MS, "lockRenewTime": RENEW_MS, "stalledInterval": CHECK_MS, "maxStalledCount": 1000,
    "drainDelay": 1,
}  # fmt: skip
OUR_JOBS = """
import asyncio, os, time
from toril import Job, Queue

queue = Queue(os.environ["TORIL_QUEUE"])

@queue.default
async def logged(job: Job) -> int:
    fd = os.open(job.data["log"], os.O_WRONLY | os.O_APPEND)

    def note(word: str) -> None:
        line = f"{time.monotonic_ns()} {os.getpid()} {word} {job.id} {job.attempt - 1}\\n"
        os.write(fd, line.encode())

    try:
        note("start")
        await asyncio.sleep(job.data["ms"] / 1000)
        if job.attempt <= job.data["fails"]:
            raise ValueError("as planned")
        note("end")
    finally:
        os.close(fd)
    return os.getpid()
"""
"""The same as `logged` in `driver.mjs`."""


class Line(NamedTuple):
    """One line of the log."""

    at_ns: int
    pid: int
    word: str
    job_id: str
    attempts_made: int


class Span(NamedTuple):
    """Something that went on for a while."""

    begin_ns: int
    end_ns: int

    def meets(self, begin_ns: int, end_ns: int) -> bool:
        return self.begin_ns <= end_ns and begin_ns <= self.end_ns


@dataclass
class Plan:
    """What was done to whom, and when."""

    killed_ns: dict[int, int] = field(default_factory=dict)
    """By process id."""
    sleeps: dict[int, list[Span]] = field(default_factory=lambda: collections.defaultdict(list))
    """By process id; those after which a lock may have run out."""
    outages: list[Span] = field(default_factory=list)
    naps: int = 0
    kinds: dict[int, str] = field(default_factory=dict)
    """Whose worker it was, by process id."""

    def with_awakenings(self, lines: Sequence[Line]) -> Plan:
        """The same with sleeps that last until the process has shown that it is awake, and a second more."""
        signs: dict[int, list[int]] = collections.defaultdict(list)
        for line in lines:
            signs[line.pid].append(line.at_ns)
        sleeps = {
            pid: [Span(span.begin_ns, _first_sign(signs[pid], span.end_ns) + SECOND_NS) for span in spans]
            for pid, spans in self.sleeps.items()
        }
        return dataclasses.replace(self, sleeps=sleeps)

    def story(self, pid: int) -> str:
        """What is known of a process."""
        killed, sleeps = self.killed_ns.get(pid), self.sleeps.get(pid, ())
        return f"{pid} is {self.kinds.get(pid)}, killed {killed}, asleep {[(*span,) for span in sleeps]}"

    def excuse(self, first: Line, again: Line) -> str:
        """Why a job that one process has started may have been started again; empty = there is no reason."""
        begin, end = first.at_ns, again.at_ns
        if begin <= self.killed_ns.get(first.pid, 0) <= end:
            return "killed"
        if any(span.meets(begin, end) for span in self.sleeps.get(first.pid, ())):
            return "asleep"
        if any(span.meets(end, end) for span in self.sleeps.get(again.pid, ())):
            # It took the job first and was put to sleep before the start. BullMQ starts such a job after the sleep.
            return "woke up with it"
        return "Redis away" if any(span.meets(begin, end) for span in self.outages) else ""


@dataclass(frozen=True)
class Verdict:
    """What the log says, in the light of the plan."""

    started: set[str]
    ended_by: dict[str, set[int]]
    """Job id → the processes that ended it."""
    excused: collections.Counter[str]
    """Repeated starts by reason."""
    twice: dict[str, str]
    """Jobs started again without a reason, and what is known of that."""
    longest_pause_seconds: float


def judge(log: Path, plan: Plan) -> Verdict:
    """Read the log."""
    lines = sorted(
        Line(int(at), int(pid), word, job_id, int(made))
        for at, pid, word, job_id, made in (text.split() for text in log.read_text().splitlines())
    )
    starts: dict[tuple[str, int], list[Line]] = collections.defaultdict(list)
    ended_by: dict[str, set[int]] = collections.defaultdict(set)
    plan = plan.with_awakenings(lines)
    for line in lines:
        if line.word == "start":
            starts[line.job_id, line.attempts_made].append(line)
        else:
            ended_by[line.job_id].add(line.pid)
    excused: collections.Counter[str] = collections.Counter()
    twice: dict[str, str] = {}
    for runs in starts.values():
        for first, again in itertools.pairwise(runs):
            reason = plan.excuse(first, again)
            excused[reason] += bool(reason)
            if not reason:
                words = [f"job {first.job_id}", *(str(line) for line in lines if line.job_id == first.job_id)]
                twice[first.job_id] = "\n  ".join([*words, *map(plan.story, {first.pid, again.pid})])
    pauses = [later.at_ns - earlier.at_ns for earlier, later in itertools.pairwise(lines)]
    return Verdict({job_id for job_id, _ in starts}, ended_by, +excused, twice, max(pauses, default=0) / 1e9)


def _first_sign(signs: Sequence[int], awake_ns: int) -> int:
    """When a process that was woken began to work, if it did so within the time that belongs to its sleep."""
    first = min((sign for sign in signs if sign >= awake_ns), default=awake_ns)
    return min(first, awake_ns + int(WAKE_SECONDS * SECOND_NS))


class Member:
    """One worker process of the fleet: Toril's, or BullMQ's of one version."""

    def __init__(self, kind: str, folder: Path) -> None:
        """Args: kind: `toril`, or BullMQ's major version."""
        self.kind = kind
        self._folder = folder
        folder.mkdir()
        self.process: Any = None
        self._close: Callable[[], None] = lambda: None

    async def start(self, url: str, queue: str, concurrency: int) -> None:
        """Start the process and wait until it works."""
        if self.kind == "toril":
            worker = workers.spawn(url, queue, OUR_JOBS, concurrency=concurrency, options=OPTIONS, folder=self._folder)
            self.process, self._close = worker.process, worker.close
            await asyncio.to_thread(worker.wait_ready, START_SECONDS)
            return
        node = NodePeer(self.kind)
        self.process, self._close = node.process, node.kill
        options = {**OPTIONS, "concurrency": concurrency, "connection": {"url": url}}
        opened = node.send("open", kind="Worker", queue=queue, options=options)
        await asyncio.wait_for(asyncio.wrap_future(opened), START_SECONDS)

    def close(self) -> None:
        """End it with SIGKILL."""
        self._close()


class Fleet:
    """Worker processes on one queue, and what is done to them. All randomness comes from the seed."""

    def __init__(self, server: RedisServer, queue: str, folder: Path, kinds: Sequence[str], *, seed: int) -> None:
        self.plan = Plan()
        self.log = folder / "log"
        self.log.touch()
        self.redis_is_wanted = asyncio.Lock()
        """Held while Redis must not be restarted."""
        self._server = server
        self._queue = queue
        self._random = random.Random(seed)
        self._members = [Member(kind, folder / f"member-{number}") for number, kind in enumerate(kinds)]
        self._awake: list[Member] = []
        self._pauses: set[asyncio.Task[None]] = set()
        self._kills: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await asyncio.gather(*(self._start(member) for member in self._members))

    async def hurt(self, deeds: Iterable[str], *, pause_seconds: float = 0.5) -> None:
        """Do deeds one after the other, at random intervals: `kill`, `nap`, `sleep`, `redis`; the first three with a
        kind (`kill toril`), or to anybody. Returns when all members are there again."""
        for deed in deeds:
            await asyncio.sleep(self._random.uniform(0.2, 1.8) * pause_seconds)
            what, _, kind = deed.partition(" ")
            if what == "redis":
                # A BullMQ worker that loses its connections while it starts may never be ready.
                await asyncio.gather(*self._kills)
                async with self.redis_is_wanted:
                    await self._restart_redis()
                continue
            member = await self._choose(kind)
            change = {"kill": self._kill, "nap": self._nap, "sleep": self._sleep}[what](member)
            (self._kills if what == "kill" else self._pauses).add(asyncio.create_task(change))
        await asyncio.gather(*self._kills, *self._pauses)

    def close(self) -> None:
        for member in self._members:
            member.close()

    def report(self, verdict: Verdict) -> str:
        plan = self.plan
        return (
            f"{len(verdict.started)} jobs; {len(plan.killed_ns)} kills, {plan.naps} naps, "
            f"{sum(map(len, plan.sleeps.values()))} sleeps, {len(plan.outages)} restarts of Redis; started again: "
            f"{dict(verdict.excused)}; without a reason: {len(verdict.twice)}; "
            f"longest pause {verdict.longest_pause_seconds:.1f} s"
        )

    async def _choose(self, kind: str) -> Member:
        """Take one that is awake out of the line; wait until there is one."""

        async def awake() -> list[Member]:
            return [member for member in self._awake if kind in ("", member.kind)]

        what = f"a member to be awake ({kind})"
        member = self._random.choice(await wait_until_async(awake, what, timeout_seconds=START_SECONDS))
        self._awake.remove(member)
        return member

    async def _start(self, member: Member) -> None:
        await member.start(self._server.url, self._queue, concurrency=5)
        self.plan.kinds[member.process.pid] = member.kind
        self._awake.append(member)

    async def _kill(self, member: Member) -> None:
        pid = member.process.pid
        await asyncio.to_thread(member.close)
        self.plan.killed_ns[pid] = time.monotonic_ns()
        await self._start(member)

    async def _nap(self, member: Member) -> None:
        self.plan.naps += 1
        await self._stop_for(member, self._random.uniform(*NAP_SECONDS))

    async def _sleep(self, member: Member) -> None:
        begin_ns = time.monotonic_ns()
        await self._stop_for(member, self._random.uniform(*SLEEP_SECONDS))
        self.plan.sleeps[member.process.pid].append(Span(begin_ns, time.monotonic_ns()))

    async def _stop_for(self, member: Member, seconds: float) -> None:
        member.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        member.process.send_signal(signal.SIGCONT)
        self._awake.append(member)

    async def _restart_redis(self) -> None:
        begin_ns = time.monotonic_ns()
        await asyncio.to_thread(self._server.stop, kill=True)
        await asyncio.sleep(self._random.uniform(0, 0.3))
        await asyncio.to_thread(self._server.start)
        # Connections come back one by one.
        self.plan.outages.append(Span(begin_ns, time.monotonic_ns() + SECOND_NS))
