"""The two built-in axes of several groups on cases written for them, and on published texts."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from fairtest.augmentation import CoverageCounter, counterfactuals, load_axis, record_views
from fairtest.augmentation.articles import vowel_begins
from fairtest.augmentation.swap import FIXED_PHRASE, NO_COUNTERPART, NO_TERM, NOT_REVERSIBLE, WOULD_BE_FALSE
from fairtest.specs import CDA

CASES = Path(__file__).parent / "cases"
REASONS = {"false": WOULD_BE_FALSE, "kept": FIXED_PHRASE, "no term": NO_TERM, "no counterpart": NO_COUNTERPART}
AXES = ("religion", "race")
# "one Jewish and one Muslim" comes back as "one Jew and one Muslim": Hindu and Buddhist are noun and adjective there.
EITHER_CLASS = re.compile(r"\b(?:one|other) Jewish(?![ ]\w)|\b(?:one|other) Jewish and ", re.IGNORECASE)


def cases_of(wanted):
    """Cases of both axes: "outputs" by group (or none, with a "reason"), or "shifts" where a text has two groups."""
    read = [
        json.loads(line) for axis in AXES for line in (CASES / f"{axis}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    chosen = [case for case in read if wanted(case)]
    return [pytest.param(case, id=f"{case['axis']}-{case['kind']}-{case['input'][:40]}") for case in chosen]


def cda(axis):
    return CDA(axes=(axis,))


@pytest.mark.parametrize("case", cases_of(lambda case: case.get("outputs") is not None))
def test_a_text_that_names_one_group_is_turned_into_each_other_group(case):
    found = {}
    for one in counterfactuals(case["input"], cda(case["axis"])):
        if one.text is None:
            assert one.reason == NO_COUNTERPART
        else:
            ((_, target),) = one.groups
            found[target] = one.text
    assert found == {group: text for group, text in case["outputs"].items() if text is not None}


@pytest.mark.parametrize("case", cases_of(lambda case: "shifts" in case))
def test_groups_that_a_text_tells_apart_are_rotated_and_stay_apart(case):
    found = [one.text for one in counterfactuals(case["input"], cda(case["axis"]))]
    assert found == [case["shifts"][str(shift)] for shift in range(1, len(load_axis(case["axis"]).groups))]


@pytest.mark.parametrize("case", cases_of(lambda case: "reason" in case))
def test_a_text_without_a_counterfactual_says_why(case):
    for one in counterfactuals(case["input"], cda(case["axis"])):
        assert (one.text, one.changes, one.reason) == (None, (), REASONS[case["reason"]])


def test_each_axis_has_at_least_sixty_cases_and_no_input_twice():
    for axis in AXES:
        lines = (CASES / f"{axis}.jsonl").read_text(encoding="utf-8").splitlines()
        inputs = [json.loads(line)["input"] for line in lines]
        assert len(inputs) == len(set(inputs)) >= 60


def test_no_group_is_turned_into_a_colour_as_a_noun():
    for terms in load_axis("race").terms.values():
        for term in terms:
            others = {word for group, word in enumerate(term.counterparts) if group != term.group}
            assert not others & {"whites", "blacks"} or term.kind != "noun"


@pytest.mark.parametrize("axis", AXES)
def test_words_of_the_lists_come_back_after_a_whole_turn(axis):
    lexicon = load_axis(axis)
    for key, terms in lexicon.terms.items():
        for term in terms:
            for group, counterpart in enumerate(term.counterparts):
                if not counterpart or not term.reversible[group]:
                    continue
                back = [one for one in lexicon.terms[counterpart.lower()] if one.kind == term.kind]
                assert [one.counterparts[term.group].lower() for one in back] == [key]


def bold(data_dir):
    for path in sorted((data_dir / "bold").glob("*_wiki.json")):
        for people in json.loads(path.read_text(encoding="utf-8")).values():
            yield from itertools.chain.from_iterable(people.values())


def stereoset(data_dir):
    document = json.loads((data_dir / "stereoset" / "dev.json").read_text(encoding="utf-8"))
    for item in itertools.chain.from_iterable(document["data"].values()):
        if item["bias_type"] in AXES:
            yield item["context"].replace("BLANK", "tall")
            yield from (sentence["sentence"] for sentence in item["sentences"])


def bbq(data_dir):
    for line in (data_dir / "bbq" / "Religion.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        yield from (item["context"], item["question"], item["ans0"], item["ans2"])


def wikitext(data_dir):
    yield from filter(str.strip, (data_dir / "wikitext-2" / "valid.txt").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("axis", AXES)
def test_published_texts_come_back_when_they_are_rotated_back(axis, data_dir, capsys):
    groups = len(load_axis(axis).groups)
    turned = returned = 0
    missed = Counter()
    for source in (bold, stereoset, bbq, wikitext):
        counter = CoverageCounter()
        for text in dict.fromkeys(source(data_dir)):
            counter.add(record_views(text, cda(axis)))
            for shift, one in enumerate(counterfactuals(text, cda(axis)), start=1):
                if one.text is None or NOT_REVERSIBLE in one.flags or EITHER_CLASS.search(text):
                    continue
                turned += 1
                back = counterfactuals(one.text, cda(axis))[groups - shift - 1].text
                returned += back == text
                if back != text:
                    missed[one.changes[0].before, one.changes[0].after] += 1
        with capsys.disabled():
            sys.stdout.write(f"\n{axis}, {source.__name__}: {counter.coverage().as_dict()}")
    assert turned > 300
    assert returned / turned >= 0.99, missed.most_common(20)


@pytest.mark.parametrize("axis", AXES)
def test_in_published_texts_nothing_but_words_of_the_axis_and_articles_is_changed(axis, data_dir):
    words = {re.sub(r"\s+", "", key) for key in load_axis(axis).terms}
    for text in itertools.chain(bold(data_dir), wikitext(data_dir)):
        for one in counterfactuals(text, cda(axis)):
            for change in one.changes:
                before = change.before.lower().replace("\u2019", "'")
                if before in ("a", "an"):
                    assert (change.after.lower() == "an") == vowel_begins(one.text[change.start :].split()[1])
                else:
                    assert re.sub(r"\s+|(?<=s)'$", "", before.replace(" @-@ ", "-")) in words
