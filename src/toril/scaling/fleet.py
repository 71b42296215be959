"""What scaling needs of a set of workers, wherever they run: a Deployment's pods, or processes of a laptop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FleetState:
    """The workers of one queue at one moment."""

    current: int
    """How many were asked for last: what a decision starts from."""
    ready: int
    """How many serve."""
    busy: int = 0
    """How many hold at least one job; a decision to scale down leaves at least so many."""


class Fleet(Protocol):
    """The workers of one queue."""

    async def observe(self) -> FleetState:
        """Look at the workers now."""
        ...

    async def scale(self, replicas: int) -> None:
        """Ask for so many workers. Those that must go finish their jobs first."""
        ...
