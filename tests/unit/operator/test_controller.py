from __future__ import annotations

from toril_operator.controller import Controller
from toril_operator.leadership import Leadership
from toril_operator.metrics import Metrics
from toril_operator.object_cache import Key, Kind
from toril_operator.work_queue import FIRST_PAUSE_SECONDS, WorkQueue

KEY = Key("shop", "email")


async def test_what_is_refused_again_and_again_is_tried_later_each_time() -> None:
    queue: WorkQueue[Key] = WorkQueue()
    answers = [False, False, False, True]
    metrics = Metrics()

    async def reconcile(key: Key) -> bool:
        return answers.pop(0)

    turns = Controller(Kind.JOB_QUEUE, queue, reconcile, leadership=Leadership(), metrics=metrics)
    for _ in range(3):
        await turns.process(KEY)
    fourth = queue.add_failed(KEY)
    assert FIRST_PAUSE_SECONDS * 8 <= fourth <= FIRST_PAUSE_SECONDS * 8 * 1.2
    await turns.process(KEY)
    assert queue.add_failed(KEY) <= FIRST_PAUSE_SECONDS * 1.2, "a turn that was whole begins anew"
    queue.close()
    results = {
        sample.labels["result"]: sample.value
        for metric in metrics.registry.collect() for sample in metric.samples if sample.name == "toril_reconcile_total"
    }  # fmt: skip
    assert results == {"refused": 3, "success": 1}
