"""Reading YAML: anchors are written out within a bound, and nothing but manifests' shapes comes through."""

from __future__ import annotations

import pytest

from toril.cli.dev import yaml_documents
from toril.cli.dev.yaml_documents import DocumentError


def test_anchors_are_written_out() -> None:
    (found,) = yaml_documents.read("a: &x {k: [1, 2]}\nb: *x\nc: {<<: *x, d: 2031-01-01}")
    assert found == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": {"k": [1, 2], "d": "2031-01-01"}}


def test_anchors_that_grow_beyond_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_VALUES", 20)
    assert list(yaml_documents.read("a: &x [1, 2, 3, 4]\nb: [*x, *x]"))
    with pytest.raises(DocumentError, match="write out to more than 20 values"):
        list(yaml_documents.read("a: &x [1, 2, 3, 4]\nb: [*x, *x, *x]"))


def test_an_anchor_that_holds_itself_is_refused() -> None:
    with pytest.raises(DocumentError, match="an anchor holds itself"):
        list(yaml_documents.read("a: &x\n  b: *x"))


def test_a_document_nests_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_DEPTH", 3)
    assert list(yaml_documents.read("{a: {b: {c: 1}}}"))
    with pytest.raises(DocumentError, match="more than 3 levels"):
        list(yaml_documents.read("{a: {b: {c: {d: {e: 1}}}}}"))


def test_what_comes_before_a_mistake_is_handed_out_and_the_mistake_has_its_place() -> None:
    documents = yaml_documents.read("a: 1\n---\nb: 1\nb: 2\n")
    assert next(documents) == {"a": 1}
    with pytest.raises(DocumentError, match="b is given twice") as refused:
        next(documents)
    assert refused.value.position == ":4:1"
