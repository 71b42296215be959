from __future__ import annotations

from typing import Any

from toril import errors
from toril_operator.object_cache import Key
from toril_operator.spec_cache import SpecCache

KEY = Key("team", "email")


def manifest(text: str, *, uid: str = "u1", generation: int = 1) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "generation": generation}, "spec": text}


def read(manifest: Any) -> str:
    if not manifest["spec"]:
        raise errors.InvalidSpecError("spec", "is empty")
    return str(manifest["spec"])


def test_a_generation_is_parsed_once() -> None:
    specs = SpecCache(read)
    first = specs.get(KEY, manifest("a"))
    assert (first.spec, first.problem) == ("a", "")
    assert specs.get(KEY, manifest("a changed status")) is first
    assert specs.get(KEY, manifest("b", generation=2)).spec == "b"
    assert specs.get(KEY, manifest("c", uid="u2", generation=2)).spec == "c"
    specs.forget(KEY)
    assert specs.get(KEY, manifest("d", uid="u2", generation=2)).spec == "d"


def test_what_makes_no_sense_is_told_until_it_changes() -> None:
    specs = SpecCache(read)
    bad = specs.get(KEY, manifest(""))
    assert (bad.spec, bad.problem) == (None, "spec: is empty")
    assert specs.get(KEY, manifest("")) is bad
    assert specs.get(KEY, manifest("a", generation=2)).spec == "a"
