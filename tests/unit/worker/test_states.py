"""The states of a worker's main loop: every transition, and what must hold whatever happens."""

from __future__ import annotations

import itertools

import pytest

from toril.worker.states import TRANSITIONS, Course, Event, State

OF_A_RUNNING_WORKER = (State.RUNNING, State.LIMITED, State.FLAGGED, State.RECOVERING, State.RECOVERING_SINGLY)


def after(state: State, *events: Event) -> State:
    course = Course()
    course.state = state
    for event in events:
        course.apply(event)
    return course.state


def test_a_worker_begins_by_recovering_and_then_runs() -> None:
    assert Course().state is State.RECOVERING
    assert after(Course().state, Event.RECOVERED) is State.RUNNING


@pytest.mark.parametrize(
    ("state", "events", "expected"),
    [
        (State.RUNNING, [Event.LIMITED], State.LIMITED),
        (State.LIMITED, [Event.PAUSE_OVER], State.RUNNING),
        (State.RUNNING, [Event.FLAGGED], State.FLAGGED),
        (State.LIMITED, [Event.FLAGGED], State.FLAGGED),
        (State.FLAGGED, [Event.LIMITED], State.FLAGGED),
        (State.FLAGGED, [Event.PAUSE_OVER], State.RUNNING),
        (State.LIMITED, [Event.FAILED, Event.RECOVERED], State.RUNNING),
        (State.RUNNING, [Event.FAILED], State.RECOVERING),
        (State.RUNNING, [Event.REFUSED], State.RECOVERING_SINGLY),
        (State.RUNNING, [Event.FAILED, Event.REFUSED], State.RECOVERING_SINGLY),
        (State.RUNNING, [Event.REFUSED, Event.FAILED], State.RECOVERING_SINGLY),
        (State.RUNNING, [Event.REFUSED, Event.RECOVERED], State.RUNNING),
        (State.RUNNING, [Event.STOPPED], State.DRAINING),
        (State.LIMITED, [Event.STOPPED, Event.PAUSE_OVER], State.DRAINING),
        (State.RECOVERING, [Event.STOPPED], State.DRAINING_RECOVERING),
        (State.RECOVERING_SINGLY, [Event.STOPPED], State.DRAINING_RECOVERING_SINGLY),
        (State.DRAINING, [Event.FAILED, Event.RECOVERED], State.DRAINING),
        (State.DRAINING, [Event.REFUSED, Event.FAILED], State.DRAINING_RECOVERING_SINGLY),
        (State.DRAINING, [Event.LIMITED], State.DRAINING),
    ],
)
def test_a_transition(state: State, events: list[Event], expected: State) -> None:
    assert after(state, *events) is expected


def test_every_state_has_its_transitions_and_is_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {target for transitions in TRANSITIONS.values() for target in transitions.values()}
    assert reached == set(State)


def test_no_transition_leads_nowhere() -> None:
    assert [(state, event) for state, known in TRANSITIONS.items() for event in known if known[event] is state] == []


@pytest.mark.parametrize("state", State)
def test_a_worker_that_drains_takes_nothing_ever_again(state: State) -> None:
    if state in OF_A_RUNNING_WORKER:
        state = after(state, Event.STOPPED)
    for events in itertools.product(Event, repeat=3):
        assert after(state, *events).is_draining


@pytest.mark.parametrize("state", [state for state in State if state.is_recovering])
def test_only_a_recovery_ends_the_states_of_recovering(state: State) -> None:
    for event in set(Event) - {Event.RECOVERED, Event.GAVE_UP}:
        assert after(state, event).is_recovering
    assert not after(state, Event.RECOVERED).is_recovering


@pytest.mark.parametrize("state", State)
def test_a_failure_and_a_stop_are_never_missed(state: State) -> None:
    if state is not State.GIVING_UP:
        assert after(state, Event.FAILED).is_recovering
        assert after(state, Event.REFUSED).is_recovering_singly
    assert after(state, Event.STOPPED).is_draining
    assert after(state, Event.GAVE_UP) is State.GIVING_UP
