"""Exact-match rates on published pairs.

Word lists and rules were extended after reading the misses on WinoBias and the novels, so these are development figures
and no estimate for unseen text; `fairtest/augmentation/data/gender_pronouns.tsv` has held-out ones in its first lines,
and test_labelled_pronouns.py those of a reader.
"""

from __future__ import annotations

import csv
import json
import re

import pytest

from fairtest.augmentation import counterfactual
from fairtest.augmentation.context import context_of
from fairtest.augmentation.disambiguation import her, his
from fairtest.augmentation.lexicon import load_axis
from fairtest.augmentation.swap import NO_TERM
from fairtest.specs import CDA

PRONOUNS = {"he", "she", "him", "her", "his", "hers", "himself", "herself"}


def misses_of(pairs):
    return [(a, counterfactual(a, CDA()).text, b) for a, b in pairs if counterfactual(a, CDA()).text != b]


def test_winogender_sentences_become_each_other(data_dir):
    path = data_dir / "winogender" / "all_sentences.tsv"
    sentences = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            name, gender, _ = row["sentid"].rsplit(".", 2)
            sentences.setdefault(name, {})[gender] = row["sentence"]
    pairs = [(s["male"], s["female"]) for s in sentences.values()]
    pairs += [(b, a) for a, b in pairs]
    assert len(pairs) == 480
    assert misses_of(pairs) == []


def test_winobias_pairs_that_differ_in_pronouns_alone_become_each_other(data_dir):
    def lines(side, part):
        text = (data_dir / "winobias" / f"{side}_stereotyped_{part}.txt").read_text(encoding="utf-8")
        return [re.sub(r"^\d+\s+|[\[\]]", "", line.strip()) for line in text.splitlines() if line.strip()]

    # A pair that names another gendered word (her daughter) leaves that word as it is: no gold for a full swap.
    def differ_in_pronouns(a, b):
        words = [re.findall(r"\w+|\S", text.lower()) for text in (a, b)]
        return (
            a != b
            and not any(term in load_axis("gender").terms and term not in PRONOUNS for term in words[0])
            and len(words[0]) == len(words[1])
            and all(x == y or {x, y} <= PRONOUNS for x, y in zip(*words, strict=True))
        )

    pairs = [
        pair
        for part in ("type1.dev", "type1.test", "type2.dev", "type2.test")
        for pair in zip(lines("pro", part), lines("anti", part), strict=True)
        if differ_in_pronouns(*pair)
    ]
    pairs += [(b, a) for a, b in pairs]
    assert len(pairs) == 3118
    missed = misses_of(pairs)
    assert len(missed) / len(pairs) <= 0.005, missed


def test_him_and_his_of_the_text_that_the_weights_were_trained_on_are_told_apart(data_dir):
    paths = sorted([*(data_dir / "gutenberg-novels").glob("*.txt"), *(data_dir / "wikitext-2").glob("*.txt")])
    right = total = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"\b(?:him|his)\b", text):
            context = context_of(text, *match.span())
            if match.group() == "his" and his(context) == "hers":
                continue  # "his" alone is "hers" in feminine text
            total += 1
            right += her(context) == match.group()
    assert total > 11_000
    assert right / total >= 0.99


def test_the_shared_cases_come_out_word_for_word(data_dir):
    path = data_dir.parent / "cases" / "cda_gender.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        result = counterfactual(case["input"], CDA(**case["options"]))
        assert (case["input"] if result.reason == NO_TERM else result.text) == case["output"], case["id"]
