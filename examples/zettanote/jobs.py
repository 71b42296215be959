"""What ZettaNote's workers do: save an edited page, upload an image that was dropped into one, and, by the clock, clean
up images and remind of tasks.

A short pause stands for the database and for the image store; everything else is real. Both jobs may run twice for the
same data without harm, as jobs must that run at least once. The fields `failTimes` and `invalid` are for the demo and
the tests: they make a job fail as planned.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import TypedDict

from toril import Job, Queue, Unrecoverable

DATABASE_SECONDS = 0.1
IMAGE_STORE_SECONDS = 0.3
REMINDER_WINDOW_MINUTES = 5
_IMAGE_REFERENCE = re.compile(r"!\[[^\]]*\]\(image:([\w-]+)\)")
_IMAGE_TYPES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
"""First bytes of a file → what it is."""

pages = Queue("page-save")
images = Queue("image-upload")
cleanups = Queue("image-cleanup")
reminders = Queue("task-reminder")


class SavedPage(TypedDict):
    pageId: str
    words: int
    imagesAdded: list[str]
    imagesRemoved: list[str]


class StoredImage(TypedDict):
    publicId: str
    type: str
    bytes: int
    pageId: str


@pages.task
async def page_save(
    pageId: str,
    newPageData: str,
    userId: str,
    oldPageData: str = "",
    failTimes: int = 0,
    invalid: bool = False,
    *,
    job: Job = Job.current(),
) -> SavedPage:
    """Save a page's new text and say which images it gained and lost."""
    await job.log(f"attempt {job.attempt}: saving page {pageId} for {userId}")
    if invalid or not pageId:
        raise Unrecoverable("pageId is empty: the page cannot be saved, however often it is tried")
    fail_as_planned(job, failTimes, "the database did not answer")
    await asyncio.sleep(DATABASE_SECONDS)
    before, after = set(_IMAGE_REFERENCE.findall(oldPageData)), set(_IMAGE_REFERENCE.findall(newPageData))
    return {
        "pageId": pageId,
        "words": len(newPageData.split()),
        "imagesAdded": sorted(after - before),
        "imagesRemoved": sorted(before - after),
    }


@images.task
async def image_upload(
    image: str,
    originalName: str,
    pageId: str,
    userId: str,
    failTimes: int = 0,
    *,
    job: Job = Job.current(),
) -> StoredImage:
    """Store an image (base64) under a name made of its content, so that the same image is stored once."""
    await job.log(f"attempt {job.attempt}: storing {originalName} of page {pageId} for {userId}")
    content = decode_image(image)
    kind = next((name for start, name in _IMAGE_TYPES.items() if content.startswith(start)), None)
    if kind is None:
        raise Unrecoverable(f"{originalName} is no PNG, JPEG or GIF image")
    fail_as_planned(job, failTimes, "the image store did not answer")
    await job.progress(50)
    await asyncio.sleep(IMAGE_STORE_SECONDS)
    digest = hashlib.sha256(content).hexdigest()[:16]
    return {"publicId": f"{pageId}/{digest}.{kind}", "type": kind, "bytes": len(content), "pageId": pageId}


class CleanedImages(TypedDict):
    orphaned: int
    marked: int
    batches: int


class SentReminders(TypedDict):
    upcoming: list[str]
    overdue: list[str]


@cleanups.task
async def image_cleanup(
    cleanupType: str = "comprehensive", batchSize: int = 50, *, job: Job = Job.current()
) -> CleanedImages:
    """The cleanup by the clock."""
    return await clean_images(job, cleanupType, batchSize)


@cleanups.task
async def manual_cleanup(cleanupType: str, batchSize: int = 50, *, job: Job = Job.current()) -> CleanedImages:
    """A cleanup that is started by hand."""
    return await clean_images(job, cleanupType, batchSize)


async def clean_images(job: Job, cleanup_type: str, batch_size: int) -> CleanedImages:
    """Mark images that no page refers to (`mark-orphaned`), remove marked ones (`cleanup-marked`), or do both
    (`comprehensive`)."""
    if cleanup_type not in ("mark-orphaned", "cleanup-marked", "comprehensive"):
        raise Unrecoverable(f"there is no cleanup of type {cleanup_type!r}")
    if batch_size < 1:
        raise Unrecoverable(f"batchSize is {batch_size}: it must be at least 1")
    await asyncio.sleep(DATABASE_SECONDS)
    orphaned = [] if cleanup_type == "cleanup-marked" else [f"orphan-{number}" for number in range(60)]
    marked = [] if cleanup_type == "mark-orphaned" else [f"marked-{number}" for number in range(15)]
    names = [*orphaned, *marked]
    batches = [names[first : first + batch_size] for first in range(0, len(names), batch_size)]
    for number, batch in enumerate(batches, 1):
        await asyncio.sleep(IMAGE_STORE_SECONDS)
        await job.log(f"batch {number} of {len(batches)}: {len(batch)} images")
        await job.progress(100 * number // len(batches))
    return {"orphaned": len(orphaned), "marked": len(marked), "batches": len(batches)}


@dataclasses.dataclass
class Task:
    """A task of a user, as the database has it."""

    title: str
    due_in_minutes: float
    is_reminded: bool = False


TASKS = [
    Task("water the plants", -1800),
    Task("pay the rent", -2),
    Task("call the bank", 54),
    Task("send the letter", 56),
    Task("book the train", 64),
    Task("plan the week", 300),
    Task("renew the passport", -90, is_reminded=True),
]


@reminders.task
async def task_reminder(*, job: Job = Job.current()) -> SentReminders:
    """Remind of tasks that are due in an hour, give or take five minutes, and of those that are overdue: once each."""
    await asyncio.sleep(DATABASE_SECONDS)
    sent = due_reminders(TASKS)
    await job.log(f"due in an hour: {len(sent['upcoming'])}, overdue: {len(sent['overdue'])}")
    return sent


def due_reminders(tasks: Sequence[Task]) -> SentReminders:
    """The titles of tasks whose user is to be reminded now."""
    waiting = [task for task in tasks if not task.is_reminded]
    return {
        "upcoming": [task.title for task in waiting if abs(task.due_in_minutes - 60) <= REMINDER_WINDOW_MINUTES],
        "overdue": [task.title for task in waiting if task.due_in_minutes < 0],
    }


def decode_image(text: str) -> bytes:
    """Decode base64. What is wrong with the data stays wrong: no retry."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Unrecoverable("image is not base64") from None


def fail_as_planned(job: Job, times: int, reason: str) -> None:
    """Fail the first `times` attempts, as a service does that is away for a while."""
    if job.attempt <= times:
        raise ConnectionError(f"{reason} (planned failure {job.attempt} of {times})")
