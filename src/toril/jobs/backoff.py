"""How long a failed attempt waits before the next: BullMQ's `backoff` option."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from toril import errors

_FIELDS = ("type", "delay", "jitter")


@dataclass(frozen=True, slots=True)
class Backoff:
    """`fixed`: always `delay_ms`. `exponential`: `delay_ms` × 1, 2, 4, 8 … Another type is computed by the worker's own
    function (`@queue.backoff`)."""

    type: str
    delay_ms: float
    jitter: float = 0.0
    """0: exactly the delay. 1: anywhere between 0 and the delay. 0.2: between 80 % and 100 %."""

    @classmethod
    def parse(cls, value: Any, field: str = "opts.backoff") -> Backoff | None:
        """Read BullMQ's forms: absent, a bare number (fixed, milliseconds) or `{type, delay, jitter}`.

        Raises:
            InvalidOptionError: another form; names the field.
        """
        if value is None:
            return None
        if _is_number(value):
            return cls("fixed", _at_least_zero(value, field))
        if not isinstance(value, Mapping):
            raise errors.InvalidOptionError(field, "must be a number of milliseconds or {type, delay, jitter}")
        for key in value:
            if key not in _FIELDS:
                raise errors.InvalidOptionError(f"{field}.{key}", f"is unknown; known are {', '.join(_FIELDS)}")
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            raise errors.InvalidOptionError(
                f"{field}.type", "must be `fixed`, `exponential`, or a type of your own that the workers compute"
            )
        delay = value.get("delay", 0)
        jitter = value.get("jitter") or 0
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            raise errors.InvalidOptionError(f"{field}.jitter", "must be between 0 and 1")
        return cls(kind, _at_least_zero(delay, f"{field}.delay"), float(jitter))

    @classmethod
    def of_stored(cls, value: Any) -> Backoff | None:
        """Read the option of a stored job as `parse` does, but leave out unknown fields.

        BullMQ stores further fields, which a custom backoff strategy may read. Raises InvalidOptionError.
        """
        if isinstance(value, Mapping):
            value = {name: value[name] for name in _FIELDS if name in value}
        return cls.parse(value)

    @property
    def is_known(self) -> bool:
        """Whether the type is `fixed` or `exponential`."""
        return self.type in ("fixed", "exponential")

    def to_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"type": self.type, "delay": _whole(self.delay_ms)}
        if self.jitter:
            wire["jitter"] = self.jitter
        return wire


def retry_delay_ms(
    backoff: Backoff | None, attempts_made: int, random: Callable[[], float], *, max_delay_ms: int | None = None
) -> int:
    """Return the pause in ms after attempt number `attempts_made` (1 = the first) has failed; 0 = no pause.

    Exponential with 5000 ms: 5000, 10000, 20000. With jitter j the result lies in [D × (1 − j), D].

    Args:
        random: gives a number in [0, 1).
        max_delay_ms: cap, our option `torilMaxDelay`.

    Raises:
        InvalidOptionError: a custom backoff type, for which the worker has to call its own function.

    Source: BullMQ 6.7 `Backoffs`.
    """
    if backoff is None:
        return 0
    if backoff.type == "fixed":
        delay = backoff.delay_ms
    elif backoff.type == "exponential":
        # JavaScript's Math.round: halves go up.
        delay = math.floor(2.0 ** (attempts_made - 1) * backoff.delay_ms + 0.5)
    else:
        raise errors.InvalidOptionError("opts.backoff.type", f"{backoff.type!r} is not known to this worker")
    if backoff.jitter:
        delay = math.floor(random() * delay * backoff.jitter + delay * (1 - backoff.jitter))
    if max_delay_ms is not None:
        delay = min(delay, max_delay_ms)
    return int(delay)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at_least_zero(value: Any, field: str) -> float:
    if not _is_number(value) or not math.isfinite(value) or value < 0:
        raise errors.InvalidOptionError(field, "must be a number of milliseconds, 0 or more")
    number: float = value
    return number


def _whole(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number
