"""What a manifest says of its queue's jobs holds for every producer of ours while `toril dev` runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.documents import ROOT
from support.engine import EngineQueue, open_queue
from support.local_mode import local_mode, toril
from support.waiting import wait_until, wait_until_async
from toril import Queue, errors

DAY, WEEK = 86_400, 604_800


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """ZettaNote's manifests and tasks."""
    folder = tmp_path / "zettanote"
    shutil.copytree(ROOT / "examples" / "zettanote", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.requirement("Z-17", "Z-18", "Z-19", "Z-20", "X-22")
async def test_the_manifests_defaults_reach_jobs_from_every_producer(example: Path, redis_url: str) -> None:
    """A job's own options go before them: a page that cannot be saved is tried three times, or once if it says so."""
    defaults = {
        "attempts": 3,
        "backoff": {"type": "exponential", "delay": 5000},
        "removeOnComplete": {"age": DAY, "count": 1000},
        "removeOnFail": {"age": WEEK, "count": 5000},
    }
    manifests = example / "queues.yaml"
    manifests.write_text(
        manifests.read_text().replace("  defaultJobOptions:", "  sizeLimit: 1000\n  defaultJobOptions:", 1)
    )
    page = {"pageId": "1", "newPageData": "", "userId": "u", "failTimes": 2}
    async with open_queue(redis_url, "page-save") as stored, Queue("page-save", url=redis_url) as pages:
        with local_mode(example, "--redis", redis_url) as running:
            wait_until(lambda: stored.raw.exists(stored.keys.defaults), "the defaults of the queue", timeout_seconds=60)
            ids = [(await pages.add("page-save", page)).id, pages.sync.add("page-save", page).id]
            ids.append(toril("job", "add", "page-save", "page-save", "--redis", redis_url).stdout.strip())
            for job_id in ids:
                assert {name: _opts(stored, job_id).get(name) for name in defaults} == defaults
            with pytest.raises(errors.InvalidPayloadError, match="sizeLimit is 1000"):
                await pages.add("page-save", {**page, "newPageData": "x" * 1000})
            once = await pages.add("page-save", page, {"attempts": 1, "backoff": 1})
            assert _opts(stored, once.id)["attempts"] == 1
            # The second and the third attempt come after 5 and 10 seconds.
            assert (await pages.handle(ids[0]).result(120))["pageId"] == "1"
            assert (await pages.handle(ids[0]).job()).attempts_made == 3
            assert await stored.inspector.state(once.id) == "failed"
            assert (await once.job()).attempts_made == 1
            running.interrupt()
            assert running.wait() == 0
        assert not stored.raw.exists(stored.keys.defaults)


def _opts(stored: EngineQueue, job_id: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(stored.hash(job_id)["opts"])
    return found


@pytest.mark.requirement("Z-07", "Z-08", "X-19")
async def test_one_cleanup_at_a_time_whatever_others_write(example: Path, redis_url: str) -> None:
    async with open_queue(redis_url, "image-cleanup") as stored:
        with local_mode(example, "--redis", redis_url):

            def concurrency() -> bool:
                return bool(stored.raw.hget(stored.keys.meta, "concurrency") == "1")

            wait_until(concurrency, "the manifest's concurrency in Redis", timeout_seconds=60)
            stored.raw.hset(stored.keys.meta, "concurrency", 7)
            wait_until(concurrency, "the manifest's concurrency to be written back")
            for _ in range(4):
                await stored.add("manual-cleanup", {"cleanupType": "mark-orphaned", "batchSize": 20})
            most = 0

            async def are_done() -> bool:
                nonlocal most
                counts = await stored.inspector.counts()
                most = max(most, counts["active"])
                return counts["completed"] >= 4

            await wait_until_async(are_done, "four cleanups", timeout_seconds=90)
            assert most == 1
