"""The defaults of a queue in Redis: written by who carries out its manifest, read by every client of ours that adds.

The hash `toril:defaults` holds `options` (JSON), `sizeLimit` (bytes) and `priorities` (JSON), whose manifest they are
(`ownerScope`, `ownerUid`), and its `generation`. A queue without a manifest, or whose manifest says nothing of these,
has no such key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from toril import clock, errors
from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.scripts import queue_defaults as codes
from toril.errors import RedisReason
from toril.jobs.queue_defaults import QueueDefaults

SCAN_PAGE = 1000
"""Keys that Redis looks at in one step of a sweep."""
MAX_AGE_MS = 30_000
"""A client reads the defaults anew before it adds when its copy is older."""
LAST_PART = "toril:defaults"
"""What the key of a queue's defaults ends with, after the queue's own base."""

_REFUSALS = (RedisReason.AUTH_FAILED, RedisReason.WRONG_TYPE, RedisReason.PROTOCOL_ERROR)
"""Reasons of a server that answers and refuses this key."""

logger = logging.getLogger("toril.queue")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose manifest the defaults are."""

    scope: str
    """Who manages the object, different for any two that may share a Redis: one cluster, one local session."""
    uid: str
    """The object, within the scope."""


class Written(Enum):
    """What a write did."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    """They were so already."""
    ANOTHERS = "another's"
    """They are another owner's, which were left as they are."""
    LATER = "later"
    """They are of a later generation of the same owner, and were left as they are."""


_WRITTEN = {1: Written.CHANGED, 0: Written.UNCHANGED, codes.ANOTHERS: Written.ANOTHERS, codes.LATER: Written.LATER}


def write(keys: QueueKeys, owner: Owner, generation: int, defaults: QueueDefaults) -> Operation[Written]:
    """Let these be the queue's defaults. Empty ones remove the key. To repeat it is safe.

    Clients follow within `MAX_AGE_MS`.
    """
    code: int = yield scripts.write_defaults(keys, owner.scope, owner.uid, generation, defaults)
    return _WRITTEN[code]


def delete(keys: QueueKeys, owner: Owner) -> Operation[Written]:
    """Remove the queue's defaults, unless they are another owner's. To repeat it is safe."""
    code: int = yield scripts.write_defaults(keys, owner.scope, owner.uid, None, QueueDefaults())
    return _WRITTEN[code]


class KnownDefaults:
    """What one `Queue` object knows of its queue's defaults; its event loops and threads share it."""

    def __init__(self, keys: QueueKeys, *, max_age_ms: int = MAX_AGE_MS) -> None:
        self.keys = keys
        self._max_age_ms = max_age_ms
        self.current = QueueDefaults()
        """None of them, until they have been read."""
        self._texts: list[str] = []
        self._asked_ms: int | None = None
        self._has_failed = False

    @property
    def is_fresh(self) -> bool:
        """Whether `current` is young enough to be used as it is."""
        return self._asked_ms is not None and clock.monotonic_ms() - self._asked_ms < self._max_age_ms

    def refresh(self) -> Operation[QueueDefaults]:
        """Return the defaults; read them when they are not fresh. What cannot be read leaves the latest known ones.

        Raises:
            RedisUnavailableError: Redis cannot be reached, and nothing is known yet.

        Redis: HMGET on `toril:defaults`.
        """
        if self.is_fresh:
            return self.current
        asked_ms = clock.monotonic_ms()
        try:
            stored = yield ("HMGET", self.keys.defaults, "options", "sizeLimit", "priorities")
            texts = [(text or b"").decode() for text in stored]
            if texts != self._texts:
                self.current = QueueDefaults.from_texts(*texts)
                self._texts = texts
            self._has_failed = False
        except errors.RedisError as problem:
            if problem.reason not in _REFUSALS:
                if self._asked_ms is not None:
                    return self.current
                raise errors.RedisUnavailableError(problem.reason, str(problem)) from None
            self._note(problem)
        except (errors.InvalidOptionError, UnicodeDecodeError) as problem:
            self._note(problem)
        self._asked_ms = asked_ms
        return self.current

    def _note(self, problem: Exception) -> None:
        """Log the first of several failures."""
        if not self._has_failed:
            words = "those known before are used" if self._texts else "none are used"
            logger.warning("the defaults of queue %s cannot be read, %s: %s", self.keys.queue, words, problem)
        self._has_failed = True


def sweep(scope: str, is_living: Callable[[str], bool]) -> Operation[list[str]]:
    """Remove the defaults of all owners of a scope that are gone; returns the keys that were removed.

    Args:
        is_living: says of an owner's uid whether it is there; asked at the moment before its defaults are removed.

    Redis: SCAN of the whole database, then HMGET of each queue's defaults and `write_defaults` of those to remove.
    """
    removed: list[str] = []
    cursor: bytes | str = "0"
    while True:
        cursor, found = yield ("SCAN", cursor, "MATCH", "*:" + LAST_PART, "COUNT", SCAN_PAGE, "TYPE", "hash")
        for raw in found:
            owner_scope, owner_uid = yield ("HMGET", raw, "ownerScope", "ownerUid")
            if owner_scope is None or owner_uid is None or owner_scope.decode(errors="replace") != scope:
                continue
            owner = Owner(scope, owner_uid.decode(errors="replace"))
            keys = _keys_of(raw)
            if keys is None or is_living(owner.uid):
                continue
            if (yield from delete(keys, owner)) is Written.CHANGED:
                removed.append(keys.defaults)
        if int(cursor) == 0:
            return removed


def _keys_of(raw: bytes) -> QueueKeys | None:
    """The queue of a key that ends as that of defaults does; None when it is no queue's."""
    prefix, _, queue = raw.decode(errors="replace").removesuffix(":" + LAST_PART).rpartition(":")
    try:
        return QueueKeys(queue, prefix)
    except errors.InvalidOptionError:
        return None
