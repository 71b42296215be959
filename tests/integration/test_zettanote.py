"""The example's jobs in a real worker: what they return, what they retry, what they give up at once."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from support import workers
from support.documents import ROOT
from toril import JobFailedError, Queue

JOBS = ROOT / "examples" / "zettanote" / "jobs.py"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def run(redis_url: str, queue: str, data: dict[str, Any], **opts: Any) -> tuple[Any, int]:
    """Add a job of the queue's own name by its name alone; returns its result and how many attempts it took."""
    with workers.start(redis_url, queue, JOBS):
        async with Queue(queue, url=redis_url) as jobs:
            handle = await jobs.add(queue, data, opts)
            return await handle.result(60), (await handle.job()).attempts_made


def image(**more: Any) -> dict[str, Any]:
    return {"image": PIXEL, "originalName": "p.png", "pageId": "7", "userId": "u", **more}


@pytest.mark.requirement("Z-10")
async def test_a_saved_page_tells_which_images_it_gained_and_lost(redis_url: str) -> None:
    data = {
        "pageId": "7", "userId": "u", "oldPageData": "![a](image:old) ![b](image:kept)",
        "newPageData": "text ![b](image:kept) ![c](image:new)",
    }  # fmt: skip
    result, _ = await run(redis_url, "page-save", data)
    assert result == {"pageId": "7", "words": 3, "imagesAdded": ["new"], "imagesRemoved": ["old"]}


@pytest.mark.requirement("Z-11")
async def test_an_image_is_stored_under_a_name_made_of_its_content(redis_url: str) -> None:
    first, _ = await run(redis_url, "image-upload", image())
    again, _ = await run(redis_url, "image-upload", image(originalName="other.png"))
    assert first == again
    assert (first["type"], first["bytes"], first["pageId"]) == ("png", 70, "7")


@pytest.mark.requirement("Z-27", "Z-28")
async def test_a_service_that_is_away_is_asked_again(redis_url: str) -> None:
    backoff = {"type": "fixed", "delay": 1}
    _, attempts = await run(redis_url, "image-upload", image(failTimes=2), attempts=3, backoff=backoff)
    assert attempts == 3


@pytest.mark.requirement("Z-29")
@pytest.mark.parametrize(
    ("content", "reason"), [("bm8gaW1hZ2U=", "is no PNG, JPEG or GIF image"), ("%", "is not base64")]
)
async def test_what_is_no_image_fails_at_once(redis_url: str, content: str, reason: str) -> None:
    backoff = {"type": "fixed", "delay": 60_000}
    with pytest.raises(JobFailedError, match=reason):
        await run(redis_url, "image-upload", image(image=content), attempts=3, backoff=backoff)


@pytest.mark.requirement("Z-22")
async def test_an_image_arrives_bit_for_bit(redis_url: str) -> None:
    """Its name is made of the bytes that the worker decoded: they are those that were sent, whatever they were."""
    content = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    stored, _ = await run(redis_url, "image-upload", image(image=base64.b64encode(content).decode()))
    digest = hashlib.sha256(content).hexdigest()[:16]
    assert stored == {"publicId": f"7/{digest}.png", "type": "png", "bytes": len(content), "pageId": "7"}


@pytest.mark.requirement("Z-12")
@pytest.mark.parametrize("name", ["image-cleanup", "manual-cleanup"])
async def test_every_cleanup_that_is_started_by_hand_or_by_the_clock(redis_url: str, name: str) -> None:
    found = {}
    with workers.start(redis_url, "image-cleanup", JOBS):
        async with Queue("image-cleanup", url=redis_url) as cleanups:
            for kind in ("mark-orphaned", "cleanup-marked", "comprehensive"):
                handle = await cleanups.add(name, {"cleanupType": kind, "batchSize": 50})
                found[kind] = await handle.result(60)
            with pytest.raises(JobFailedError, match="no cleanup of type 'all'"):
                await (await cleanups.add(name, {"cleanupType": "all"})).result(60)
    assert found == {
        "mark-orphaned": {"orphaned": 60, "marked": 0, "batches": 2},
        "cleanup-marked": {"orphaned": 0, "marked": 15, "batches": 1},
        "comprehensive": {"orphaned": 60, "marked": 15, "batches": 2},
    }


@pytest.mark.requirement("Z-13")
async def test_who_is_reminded_is_due_in_an_hour_or_overdue_and_was_not_reminded_before(redis_url: str) -> None:
    result, _ = await run(redis_url, "task-reminder", {})
    assert result == {
        "upcoming": ["send the letter", "book the train"], "overdue": ["water the plants", "pay the rent"],
    }  # fmt: skip


@pytest.mark.requirement("Z-42")
@pytest.mark.parametrize(
    ("queue", "data"),
    [
        ("page-save", {"pageId": "7", "userId": "u", "newPageData": "![b](image:kept)"}),
        ("image-upload", image()),
        ("image-cleanup", {"cleanupType": "comprehensive"}),
        ("task-reminder", {}),
    ],
)
async def test_a_job_that_runs_again_leaves_what_it_left(redis_url: str, queue: str, data: dict[str, Any]) -> None:
    with workers.start(redis_url, queue, JOBS):
        async with Queue(queue, url=redis_url) as jobs:
            handle = await jobs.add(queue, data)
            first = await handle.result(60)
            await handle.retry("completed")
            assert await handle.result(60) == first
            assert (await handle.job()).attempts_started == 2
