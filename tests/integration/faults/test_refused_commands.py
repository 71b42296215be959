"""Redis refuses one command of a script: a call does all that it says or nothing, and loses no job."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
import redis

from support.engine import EngineQueue, open_queue
from support.full_redis import CASES, Case
from support.refusal_cases import RICH_CASES
from support.refusals import REFUSED, Server, build_of, keys_of, made, pattern_of, sites, text_of
from toril import errors
from toril.engine import lua_loader
from toril.engine.redis.connection import Call
from toril.errors import RedisReason

ALL_CASES = [*CASES, *RICH_CASES]
NAMES = [f"{case.script}-{number}" for number, case in enumerate(ALL_CASES)]


@pytest.fixture
async def server(redis_url: str, queue_name: str) -> AsyncIterator[Server]:
    started = Server(redis_url, queue_name)
    yield started
    started.close()


class Scene:
    """A case in a state that can be made again, and what its call does when nothing is refused."""

    def __init__(self, server: Server, call: Call[object]) -> None:
        self.server = server
        self.call = call
        self.saved = server.save()
        self.before = server.stored()
        self.build = build_of(call.script)
        # The order in which a set is read is another one, once it is restored.
        server.restore(self.saved)
        server.run_build(self.build, call)
        self.made = made(server)
        self.wanted = moments_apart(server.stored())

    def refuse_call(self, number: int) -> None:
        self._begin(number)
        try:
            self.server.run_build(self.build, self.call)
        except redis.ResponseError as problem:
            self._nothing_is_changed(f"call {number}: {self.made.calls[number - 1]}", problem)
        else:
            self._all_is_done(f"call {number}: {self.made.calls[number - 1]}")

    def refuse_to_user(self, rules: list[str], what: str) -> errors.RedisError | None:
        """Returns what was raised, or None when the script could do without."""
        self.server.make_user("+@all", *rules)
        self._begin(0)
        try:
            self.server.limited.run(self.call)
        except errors.RedisError as problem:
            self._nothing_is_changed(what, problem)
            return problem
        self._all_is_done(what)
        return None

    def _begin(self, refused: int) -> None:
        self.server.restore(self.saved)
        self.server.raw.set(REFUSED, refused)

    def _nothing_is_changed(self, refused: str, problem: Exception) -> None:
        stored = self.server.stored()
        changed = {key: (self.before.get(key), stored.get(key)) for key in {*stored, *self.before}
                   if stored.get(key) != self.before.get(key)}  # fmt: skip
        assert changed == {}, f"{refused} was refused: {problem}"

    def _all_is_done(self, refused: str) -> None:
        """What is refused to reads that may find a key of another type is of no consequence."""
        after = moments_apart(self.server.stored())
        assert after in (self.wanted, moments_apart(self.before)), f"{refused} was refused, and the script went on"


def moments_apart(stored: dict[str, object]) -> str:
    return re.sub(r"1[789]\d{11}", "now", json.dumps(stored, sort_keys=True))


async def prepared(server: Server, queue: EngineQueue, case: Case) -> Scene:
    held = await case.prepare(queue)
    return Scene(server, case.ask(queue, held))


@pytest.mark.parametrize("case", ALL_CASES, ids=NAMES)
async def test_any_one_call_may_be_refused(server: Server, redis_url: str, queue_name: str, case: Case) -> None:
    async with open_queue(redis_url, queue_name) as queue:
        scene = await prepared(server, queue, case)
    for number in range(1, len(scene.made.calls) + 1):
        scene.refuse_call(number)


@pytest.mark.parametrize("case", ALL_CASES, ids=NAMES)
async def test_a_user_may_lack_the_right_to_any_command_or_key(
    server: Server, redis_url: str, queue_name: str, case: Case
) -> None:
    async with open_queue(redis_url, queue_name) as queue:
        scene = await prepared(server, queue, case)
    calls = scene.made.calls
    refusals = [(scene.refuse_to_user(["~*", f"-{command}"], command), command, "") for command in scene.made.commands]
    for key in scene.made.keys:
        others = [pattern_of(other) for other in {*scene.made.keys, *scene.call.keys} - {key}]
        refusals.append((scene.refuse_to_user(others, key), "", key))
    for problem, command, key in refusals:
        if problem is not None:
            assert problem.reason is RedisReason.AUTH_FAILED
            possible = [
                f"no right to {call[0]} {each}"
                for call in calls
                if call[0] == command or key in keys_of(call)
                for each in keys_of(call) or call[1:2]
            ]
            # Members of a set come in another order each time: of many children, others may be the first ones.
            named = re.search(r"no right to (\S+) (\S+)", str(problem))
            is_lacking = named is not None and (
                named[1] == command or named[2] not in {*scene.made.keys, *scene.call.keys}
            )
            # EVAL itself is refused where a key is concerned that it names. Without one read a script may try another.
            is_named = (
                any(words in str(problem) for words in possible) or (key != "" and key in str(problem)) or is_lacking
            )
            assert is_named or key in scene.call.keys, problem


async def test_the_cases_reach_every_place_that_calls_redis(server: Server, redis_url: str, queue_name: str) -> None:
    """The table of places is made from the scripts."""
    reached: set[str] = set()
    for number, case in enumerate(ALL_CASES):
        async with open_queue(redis_url, f"{queue_name}-{number}") as queue:
            queue.raw.flushdb()
            scene = await prepared(server, queue, case)
        reached |= scene.made.sites
    places = {f"{script} {text_of(place)}" for script in lua_loader.names() for place in sites(script)}
    assert reached - places == set()
    missed = {place.split(": ", 1)[1] for place in places} - {place.split(": ", 1)[1] for place in reached}
    assert missed == set(), "\n".join(sorted(missed))
