"""What a worker's main loop is doing, by name, and what leads from one state to another. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class State(enum.StrEnum):
    """The states of the main loop. `TRANSITIONS` says how they follow one another."""

    RUNNING = "running"
    """Takes jobs, records how they end, waits for wake-ups."""
    LIMITED = "limited"
    """Records how jobs end. Takes none until the rate limit's time is over."""
    FLAGGED = "flagged"
    """Records how jobs end. Takes none, and waits for no wake-up, until it is time to see whether the flag is gone."""
    RECOVERING = "recovering"
    """At the start and after a failure: makes sure of locks, ends and taken jobs before anything else is sent."""
    RECOVERING_SINGLY = "recovering singly"
    """As RECOVERING, one end a call: Redis has refused a call, and one job alone may be the reason."""
    DRAINING = "draining"
    """Takes nothing any more. Records how the running jobs end, and leaves after the last."""
    DRAINING_RECOVERING = "draining, recovering"
    """As RECOVERING. Leaves at once when it holds no job."""
    DRAINING_RECOVERING_SINGLY = "draining, recovering singly"
    """As RECOVERING_SINGLY. Leaves at once when it holds no job."""
    GIVING_UP = "giving up"
    """Leaves, whatever is not recorded."""

    # These are read several times a job, so they are attributes of each state.
    is_recovering: bool
    """Whether only recovery may talk to Redis."""
    is_recovering_singly: bool
    is_draining: bool
    """Whether nothing is taken any more, for good."""

    def __init__(self, text: str) -> None:
        self.is_recovering_singly = text.endswith("recovering singly")
        self.is_recovering = self.is_recovering_singly or text.endswith("recovering")
        self.is_draining = text.startswith("draining") or text == "giving up"


class Event(enum.StrEnum):
    """What leads from one state to another."""

    LIMITED = "limited"
    """A reply says that the rate limit is reached."""
    FLAGGED = "flagged"
    """A reply says that the worker is flagged in `toril:draining`."""
    PAUSE_OVER = "pause over"
    """It is time to take again."""
    FAILED = "failed"
    """Redis was not reached, or what it did is not known."""
    REFUSED = "refused"
    """Redis has answered that it does not carry out a call."""
    RECOVERED = "recovered"
    """Locks, ends and taken jobs are as Redis has them."""
    STOPPED = "stopped"
    """The worker is to drain."""
    GAVE_UP = "gave up"
    """The worker is to leave though Redis does not answer."""


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.RUNNING: {
        Event.LIMITED: State.LIMITED,
        Event.FLAGGED: State.FLAGGED,
        Event.FAILED: State.RECOVERING,
        Event.REFUSED: State.RECOVERING_SINGLY,
        Event.STOPPED: State.DRAINING,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.LIMITED: {
        Event.PAUSE_OVER: State.RUNNING,
        Event.FLAGGED: State.FLAGGED,
        Event.FAILED: State.RECOVERING,
        Event.REFUSED: State.RECOVERING_SINGLY,
        Event.STOPPED: State.DRAINING,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.FLAGGED: {
        Event.PAUSE_OVER: State.RUNNING,
        Event.FAILED: State.RECOVERING,
        Event.REFUSED: State.RECOVERING_SINGLY,
        Event.STOPPED: State.DRAINING,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.RECOVERING: {
        Event.REFUSED: State.RECOVERING_SINGLY,
        Event.RECOVERED: State.RUNNING,
        Event.STOPPED: State.DRAINING_RECOVERING,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.RECOVERING_SINGLY: {
        Event.RECOVERED: State.RUNNING,
        Event.STOPPED: State.DRAINING_RECOVERING_SINGLY,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.DRAINING: {
        Event.FAILED: State.DRAINING_RECOVERING,
        Event.REFUSED: State.DRAINING_RECOVERING_SINGLY,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.DRAINING_RECOVERING: {
        Event.REFUSED: State.DRAINING_RECOVERING_SINGLY,
        Event.RECOVERED: State.DRAINING,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.DRAINING_RECOVERING_SINGLY: {
        Event.RECOVERED: State.DRAINING,
        Event.GAVE_UP: State.GIVING_UP,
    },
    State.GIVING_UP: {},
}
"""The state after each event. An event that a state does not list changes nothing."""


class Course:
    """The state that one worker's main loop is in; shared by its parts."""

    def __init__(self) -> None:
        self.state = State.RECOVERING
        """Nothing is known of Redis at the start."""

    def apply(self, event: Event) -> None:
        """Go where `TRANSITIONS` leads."""
        self.state = TRANSITIONS[self.state].get(event, self.state)
