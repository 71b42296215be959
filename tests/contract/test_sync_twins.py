"""The classes without an event loop offer all that the asynchronous ones do: same arguments, result and docstring."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from tools import sync_twins
from toril import flow
from toril.client import flows, handle, schedulers
from toril.client.sync import flows as sync_flows
from toril.client.sync import handle as sync_handle
from toril.client.sync import queue as sync_queue
from toril.client.sync import schedulers as sync_schedulers
from toril.queue import Queue
from toril.tasks import task

TWINS: list[tuple[type[Any], type[Any]]] = [
    (Queue, sync_queue.SyncQueue),
    (handle.JobHandle, sync_handle.SyncJobHandle),
    (schedulers.Schedulers, sync_schedulers.SyncSchedulers),
    (flows.Flow, sync_flows.SyncFlow),
    (task.BaseTask, task.SyncTask),
]
ONE_LOOP = {(Queue, "close"): "closes the running event loop's connection; `queue.sync.close` closes the other one"}
"""Methods whose docstrings differ, and why."""
NO_TWIN = {"events": "an endless iteration, which belongs to one event loop"}
"""Methods of `Queue` that need an event loop and send requests, though they are called without `await`."""


def async_methods(of: type[Any]) -> list[str]:
    return [name for name, each in inspect.getmembers(of, inspect.iscoroutinefunction) if not name.startswith("_")]


METHODS = [(ours, twin, name) for ours, twin in TWINS for name in async_methods(ours)]


def test_there_are_methods_to_compare() -> None:
    assert len(METHODS) > 50
    for ours, _ in TWINS:
        assert async_methods(ours), ours


@pytest.mark.parametrize(
    ("ours", "twin", "name"), METHODS, ids=[f"{ours.__name__}.{name}" for ours, _, name in METHODS]
)
def test_each_method_has_its_twin(ours: type[Any], twin: type[Any], name: str) -> None:
    method, other = getattr(ours, name), getattr(twin, name, None)
    assert inspect.isfunction(other), f"{twin.__name__} has no {name}: run `make sync`"
    assert not inspect.iscoroutinefunction(other)
    assert shape(other) == shape(method, in_sync_words=True)
    assert [shape(each) for each in typing.get_overloads(other)] == [
        shape(each, in_sync_words=True) for each in typing.get_overloads(method)
    ]
    if (ours, name) not in ONE_LOOP:
        assert other.__doc__ == sync_twins.in_sync_words(method.__doc__)


def shape(function: Any, *, in_sync_words: bool = False) -> tuple[list[tuple[str, Any, Any, str]], str]:
    """Parameters and result of a function. Annotations are text; with `in_sync_words`, as the twin writes them."""
    signature = inspect.signature(function)

    def words(annotation: Any) -> str:
        return sync_twins.in_sync_words(str(annotation)) if in_sync_words else str(annotation)

    parameters = [
        (each.name, each.kind, each.default, words(each.annotation)) for each in signature.parameters.values()
    ]
    return parameters, words(signature.return_annotation)


def test_several_flows_are_added_alike() -> None:
    assert shape(sync_flows.add_flows_sync) == shape(flows.add_flows, in_sync_words=True)
    assert not inspect.iscoroutinefunction(sync_flows.add_flows_sync)


@pytest.mark.parametrize("name", NO_TWIN)
def test_what_needs_an_event_loop_has_no_twin(name: str) -> None:
    assert hasattr(Queue, name)
    assert not hasattr(sync_queue.SyncQueue, name)


@pytest.mark.parametrize("module", sync_twins.MODULES)
def test_a_written_twin_is_up_to_date(module: str) -> None:
    assert (sync_twins.TWINS / f"{module}.py").read_text() == sync_twins.twin_of(module)


def test_everything_that_has_a_twin_leads_to_it() -> None:
    queue = Queue("emails")

    @queue.task
    def send(to: str) -> str:
        return to

    assert isinstance(queue.sync, sync_queue.SyncQueue)
    assert isinstance(queue.sync.schedulers, sync_schedulers.SyncSchedulers)
    assert isinstance(queue.handle("1").sync, sync_handle.SyncJobHandle)
    assert isinstance(queue.sync.handle("1"), sync_handle.SyncJobHandle)
    assert isinstance(flow(send.draft("a"), []).sync, sync_flows.SyncFlow)
    assert isinstance(send.sync, task.SyncTask)
