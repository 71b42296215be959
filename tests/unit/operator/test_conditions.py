from __future__ import annotations

from toril_operator.conditions import MAX_MESSAGE, Condition, Reason, Status, Type, build_conditions


def ready(status: Status, reason: Reason = Reason.RECONCILED, message: str = "") -> Condition:
    return Condition(Type.READY, status, reason, message)


def test_the_time_moves_only_with_the_status() -> None:
    first = build_conditions([ready(Status.TRUE)], (), generation=1, now="t1")
    assert first[0]["lastTransitionTime"] == "t1"
    same = build_conditions([ready(Status.TRUE, Reason.PENDING, "other")], first, generation=2, now="t2")
    assert same[0] == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 2,
        "lastTransitionTime": "t1",
        "reason": "Pending",
        "message": "other",
    }
    changed = build_conditions([ready(Status.FALSE)], same, generation=2, now="t3")
    assert changed[0]["lastTransitionTime"] == "t3"


def test_a_message_is_bounded() -> None:
    (built,) = build_conditions([ready(Status.TRUE, message="x" * 50_000)], (), generation=1, now="t")
    assert len(built["message"]) == MAX_MESSAGE


def test_conditions_of_no_type_of_ours_are_not_carried_on() -> None:
    before = [{"type": "Old", "status": "True", "lastTransitionTime": "t0"}]
    built = build_conditions([ready(Status.TRUE)], before, generation=1, now="t1")
    assert [entry["type"] for entry in built] == ["Ready"]
