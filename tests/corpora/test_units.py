from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.corpora.readers import read_corpus
from fairtest.corpora.units import Corpus, Record, Unit, group_into_units
from fairtest.errors import CorpusError


def corpus_of(*texts_by_unit, name="c"):
    units = tuple(
        Unit(str(index), tuple(Record(f"{index}-{place}", text) for place, text in enumerate(texts)))
        for index, texts in enumerate(texts_by_unit)
    )
    return Corpus(name, units)


def test_the_digest_is_of_the_content_and_not_of_the_name():
    assert corpus_of(["a"], ["b"], name="x").digest == corpus_of(["a"], ["b"], name="y").digest
    assert corpus_of(["a"], ["b"]).digest != corpus_of(["b"], ["a"]).digest


def test_a_units_side_of_the_split_depends_on_its_id_alone():
    few = corpus_of(*[["text"]] * 200)
    many = corpus_of(*[["other"]] * 400)
    small, large = few.split(0.1), many.split(0.1)
    kept, aside = ({unit.id for unit in side.units} for side in large)
    assert {unit.id for unit in small[0].units} <= kept
    assert {unit.id for unit in small[1].units} <= aside
    assert not kept & aside
    assert 20 < len(aside) < 60


def test_a_corpus_too_small_to_hold_units_out_is_an_error():
    with pytest.raises(CorpusError, match="too small to hold units out"):
        corpus_of(["a"]).split(0.1)


def test_records_of_one_unit_are_gathered_in_order():
    records = [Record(str(i), text) for i, text in enumerate("abcd")]
    units = group_into_units(records, ["u", "v", "u", "w"])
    assert [(unit.id, [record.text for record in unit.records]) for unit in units] == [
        ("u", ["a", "c"]), ("v", ["b"]), ("w", ["d"])]  # fmt: skip


def test_an_id_that_occurs_twice_is_an_error():
    with pytest.raises(CorpusError, match="more than once"):
        Corpus("c", (Unit("a", ()), Unit("a", ())))


def test_a_corpus_of_one_person_says_why_nothing_can_be_held_out():
    rows = [{"text": text, "lang": "en"} for text in "abc"]
    with pytest.raises(CorpusError) as caught:
        read_corpus(rows, unit_field="lang", name="c").split(0.5)
    assert str(caught.value) == (
        "all 3 records of corpus 'c' belong to one lang, so none can be held out\n"
        "  where: c, lang 'en'\n"
        "  do:    set unit_field to a column whose values tell the privacy units apart"
    )


# -- a cap on the records of a unit -----------------------------------------------------------------------------------

some_rows = st.lists(
    st.tuples(st.text("abcdef", min_size=1, max_size=3), st.sampled_from("uvw")), min_size=1, max_size=25
)


def grouped(pairs):
    return read_corpus([{"text": text, "user": user} for text, user in pairs], unit_field="user")


def texts_by_unit(corpus):
    return {unit.id: [record.text for record in unit.records] for unit in corpus.units}


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(item in rest for item in part)


@given(some_rows, st.integers(1, 6))
def test_a_cap_keeps_so_many_records_of_each_unit_in_their_order(pairs, cap):
    corpus = grouped(pairs)
    capped = corpus.capped(cap)
    assert [unit.id for unit in capped.units] == [unit.id for unit in corpus.units]
    for before, after in zip(corpus.units, capped.units, strict=True):
        assert len(after.records) == min(cap, len(before.records))
        assert after.left_out == len(before.records) - len(after.records)
        assert is_subsequence(after.records, before.records)
    assert capped.record_count + capped.records_left_out == corpus.record_count == len(pairs)
    assert (capped.unit_name, capped.name) == (corpus.unit_name, corpus.name)


@given(some_rows, st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_order_of_a_corpus_does_not_change_which_texts_a_cap_keeps(pairs, cap, rng):
    shuffled = rng.sample(pairs, len(pairs))
    kept, again = texts_by_unit(grouped(pairs).capped(cap)), texts_by_unit(grouped(shuffled).capped(cap))
    assert {unit: sorted(texts) for unit, texts in kept.items()} == {
        unit: sorted(texts) for unit, texts in again.items()
    }


@given(some_rows, st.integers(1, 6))
def test_without_one_unit_a_cap_keeps_the_same_of_all_others(pairs, cap):
    """Else corpora that differ by one unit would differ by more once they are capped."""
    gone = pairs[0][1]
    rest = [pair for pair in pairs if pair[1] != gone]
    expected = texts_by_unit(grouped(pairs).capped(cap))
    del expected[gone]
    assert (texts_by_unit(grouped(rest).capped(cap)) if rest else {}) == expected


@given(some_rows, st.integers(1, 5))
def test_caps_are_nested_and_capping_twice_is_capping_at_the_smaller(pairs, cap):
    corpus = grouped(pairs)
    small, large = corpus.capped(cap), corpus.capped(cap + 1)
    for few, more in zip(small.units, large.units, strict=True):
        assert is_subsequence(few.records, more.records)
    assert large.capped(cap) == small
    assert small.capped(cap + 1) == small


def test_what_a_cap_keeps_is_fixed_and_not_simply_the_first():
    rng = random.Random(0)
    pairs = [(f"text {number}", rng.choice("uvw")) for number in range(300)]
    corpus = grouped(pairs)
    places = [
        texts_by_unit(corpus)[unit].index(text)
        for unit, texts in texts_by_unit(corpus.capped(10)).items()
        for text in texts
    ]
    assert sum(place >= 50 for place in places) >= 8
    assert texts_by_unit(grouped([(f"text {number}", "u") for number in range(8)]).capped(3)) == {
        "u": ["text 2", "text 3", "text 7"]
    }


def test_no_cap_leaves_the_corpus_as_it_is_and_a_cap_is_seen_by_the_digest():
    corpus = corpus_of(["a", "b"], ["c"])
    assert corpus.capped(None) is corpus
    assert corpus.capped(2) == corpus
    assert corpus.capped(2).digest == corpus.digest
    assert corpus.capped(1).digest != corpus.digest
    kept, aside = corpus_of(*[["a", "b", "c"]] * 50).capped(2).split(0.3)
    assert (kept.records_left_out, aside.records_left_out) == (len(kept), len(aside))


def test_what_is_left_out_is_no_part_of_what_is_trained_on():
    unit = Unit("a", (Record("0", "text"),))
    assert Corpus("c", (unit,)).digest == Corpus("c", (dataclasses.replace(unit, left_out=7),)).digest


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_an_error(cap):
    with pytest.raises(CorpusError, match=f"at most {cap} records of a unit leave nothing to train on"):
        corpus_of(["a"]).capped(cap)


def test_no_record_has_a_say_in_which_side_another_is_on():
    """Neighbouring corpora differ by one record: were sides a matter of position, removing one would move others."""
    texts = [f"text {i % 90}" for i in range(100)]  # ten of them twice
    kept, aside = ({r.text for u in side.units for r in u.records} for side in read_corpus(texts).split(0.3))
    assert not kept & aside
    for gone in (0, 37, 99):
        fewer = read_corpus([*texts[:gone], *texts[gone + 1 :]])
        sides = [{r.text for u in side.units for r in u.records} for side in fewer.split(0.3)]
        assert sides[0] <= kept
        assert sides[1] <= aside
    assert not read_corpus(texts).named
