"""Sentences with the counterfactual that a reader of English would write, by kind; cases/gender.jsonl has them.

An output of null: none is to be made. An output like the input: no word of the axis. "reversible": false where the
way back gives another word. "known_miss" says why a case does not come out yet; once it does, the mark has to go.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from fairtest.augmentation import counterfactual
from fairtest.augmentation.swap import NO_TERM
from fairtest.specs import CDA

SHARED_KINDS = (
    "keys object-her hers his-pronoun his-det her-leave upper contraction mr mrs dear-sir chairman substrings names-off"
    " names-on wikitext his-or-her one-pass medical whitespace"
)
KINDS = defaultdict(list)
# Some inputs hold a line separator of Unicode, at which splitlines would cut.
for _line in (Path(__file__).parent / "cases" / "gender.jsonl").read_text(encoding="utf-8").strip().split("\n"):
    _case = json.loads(_line)
    KINDS[_case["kind"]].append(_case)
CASES = [case for cases in KINDS.values() for case in cases]
MISSES = [case for case in CASES if "known_miss" in case]


def swapped(text, case):
    result = counterfactual(text, CDA(**case.get("options", {})))
    return text if result.reason == NO_TERM else result.text


def goes_back(case):
    """Whether the output is expected to give the input."""
    return case.get("reversible", True) and case["output"] not in (None, case["input"])


def misses_of(cases):
    """What came out instead of what is right, by (id, direction)."""
    found = {}
    for case in cases:
        there = swapped(case["input"], case)
        if there != case["output"]:
            found[case["id"], "there"] = (there, case["output"])
        if goes_back(case) and (back := swapped(case["output"], case)) != case["input"]:
            found[case["id"], "back"] = (back, case["input"])
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_case_of_a_kind_comes_out_there_and_back(kind):
    assert misses_of(case for case in KINDS[kind] if "known_miss" not in case) == {}


@pytest.mark.parametrize("case", MISSES, ids=lambda case: case["id"])
def test_a_known_miss_is_still_one(case):
    assert misses_of([case]), f"{case['id']} comes out right: remove its known_miss"


def test_every_shared_kind_has_ten_cases_of_our_own_and_so_has_every_other():
    assert {kind: len(cases) for kind, cases in KINDS.items() if len(cases) < 10} == {}
    assert set(SHARED_KINDS.split()) <= set(KINDS)


def test_no_case_is_written_twice():
    ids = [case["id"] for case in CASES]
    inputs = [(case["input"], str(case.get("options"))) for case in CASES]
    assert len(set(ids)) == len(ids)
    assert len(set(inputs)) == len(inputs)


def test_our_own_cases_are_none_of_the_shared_ones(data_dir):
    path = data_dir.parent / "cases" / "cda_gender.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    shared = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {case["input"] for case in shared} & {case["input"] for case in CASES} == set()
    assert {case["id"] for case in shared} == set(SHARED_KINDS.split())


def test_few_cases_are_known_misses():
    assert len(MISSES) <= 0.05 * len(CASES)
