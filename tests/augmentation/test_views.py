from __future__ import annotations

import random
import subprocess
import sys

import pytest

from fairtest.augmentation import CoverageCounter, UnitViews, augment, counterfactuals, record_views
from fairtest.augmentation.views import DRAWN_TO_STAY, EMPTY
from fairtest.corpora.units import Corpus, Record, Unit
from fairtest.errors import AugmentationError, AugmentationWarning
from fairtest.specs import CDA

SUBSTITUTE = CDA(mode="substitute")
TEXTS = [f"She paid {count} coins." for count in range(400)]


def texts_of(views):
    return [view.text for view in views.views]


def test_two_sided_keeps_the_record_and_adds_its_counterfactual():
    found = record_views("She paid.", CDA())
    assert [(view.number, view.text, view.axis, view.group) for view in found.views] == [
        (0, "She paid.", None, None),
        (1, "He paid.", "gender", "masculine"),
    ]
    assert found.reason is None


def test_a_record_without_a_term_has_one_view_and_a_reason():
    assert (texts_of(record_views("It rained.", CDA())), record_views("It rained.", CDA()).reason) == (
        ["It rained."],
        "no term",
    )
    assert record_views("  \n", CDA()).reason == EMPTY


def test_each_axis_and_each_other_group_is_a_view_of_its_own():
    found = record_views("The woman sat in a mosque.", CDA(axes=("gender", "religion")))
    groups = [(view.axis, view.group) for view in found.views]
    assert groups[:2] == [(None, None), ("gender", "masculine")]
    assert found.views[1].text == "The man sat in a mosque."
    others = [view for view in found.views if view.axis == "religion"]
    assert {view.group for view in others} >= {"christian", "jewish"}
    assert all("woman" in view.text and "mosque" not in view.text for view in others)


def test_one_counterfactual_of_several_is_drawn_alike_every_time():
    one = CDA(axes=("religion",), counterfactuals="one")
    drawn = [record_views(f"A mosque, number {number}.", one) for number in range(200)]
    assert all(len(found.views) == 2 for found in drawn)
    counts = dict.fromkeys(("christian", "jewish"), 0)
    for found in drawn:
        if found.views[1].group in counts:
            counts[found.views[1].group] += 1
    assert min(counts.values()) > 15
    assert drawn == [record_views(f"A mosque, number {number}.", one) for number in range(200)]


def test_substitution_swaps_about_half_and_keeps_one_view():
    drawn = [record_views(text, SUBSTITUTE) for text in TEXTS]
    assert all(len(found.views) == 1 for found in drawn)
    swapped = sum(found.views[0].number for found in drawn)
    assert 160 <= swapped <= 240  # four standard deviations around 200
    assert {found.reason for found in drawn if not found.views[0].number} == {DRAWN_TO_STAY}


def test_what_is_drawn_depends_on_the_record_alone_and_not_on_order_or_process():
    drawn = {text: texts_of(record_views(text, SUBSTITUTE)) for text in TEXTS}
    shuffled = list(TEXTS)
    random.Random(5).shuffle(shuffled)
    assert {text: texts_of(record_views(text, SUBSTITUTE)) for text in shuffled} == drawn
    code = (
        "from fairtest.augmentation import record_views\nfrom fairtest.specs import CDA\n"
        "print(*(record_views(f'She paid {n} coins.', CDA(mode='substitute')).views[0].number for n in range(400)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [int(number) for number in output.split()] == [
        record_views(text, SUBSTITUTE).views[0].number for text in TEXTS
    ]


def test_another_seed_or_other_fields_draw_anew():
    def numbers(cda, fields):
        return [record_views(text, cda, fields).views[0].number for text in TEXTS]

    first = numbers(SUBSTITUTE, {})
    for other in (numbers(CDA(mode="substitute", seed=1), {}), numbers(SUBSTITUTE, {"user": "7"})):
        assert 120 <= sum(one != two for one, two in zip(first, other, strict=True)) <= 280


def test_a_group_of_several_is_drawn_uniformly_its_own_among_them():
    cda = CDA(axes=("religion",), mode="substitute")
    groups = len(counterfactuals("A mosque.", CDA(axes=("religion",)))) + 1
    count = 1000
    kept = sum(record_views(f"The Muslims met {number} times.", cda).views[0].number == 0 for number in range(count))
    expected = count / groups
    assert abs(kept - expected) < 4 * (expected * (1 - 1 / groups)) ** 0.5


def test_a_substituted_text_stands_in_its_records_place_and_the_record_is_remembered():
    units = tuple(Unit(str(index), (Record(str(index), text),)) for index, text in enumerate([*TEXTS, "It rained."]))
    augmented = augment(Corpus("letters", units), SUBSTITUTE)
    assert augmented.views_per_unit == 1
    for unit, text in zip(augmented.units, [*TEXTS, "It rained."], strict=True):
        own = record_views(text, SUBSTITUTE)
        replaced = (text,) if own.views[0].number else ()
        assert unit == UnitViews(unit.id, (own.views[0].text,), 1, (), replaced)
    coverage = augmented.coverage
    assert coverage.views == coverage.records == 401
    assert coverage.unchanged_by_reason["no term"] == 1
    assert coverage.changed + coverage.unchanged_by_reason[DRAWN_TO_STAY] == 400


def test_several_axes_are_substituted_one_after_the_other():
    cda = CDA(axes=("gender", "religion"), mode="substitute")
    drawn = [record_views(f"The woman left mosque {number}.", cda) for number in range(60)]
    both = [found.views[0] for found in drawn if found.views[0].axis == "gender, religion"]
    assert both
    assert all(view.text.startswith("The man left ") and "mosque" not in view.text for view in both)
    assert all((view.words_changed, view.changes) == (2, ()) for view in both)


def test_a_corpus_that_hardly_speaks_of_people_is_warned_about_once():
    units = [Unit(str(index), (Record(str(index), "Es regnet heute."),)) for index in range(300)]
    units.append(Unit("last", (Record("last", "She paid."),)))
    with pytest.warns(AugmentationWarning, match="1 of 301 records hold a word of the axes, fewer than 1%") as caught:
        augment(Corpus("letters", tuple(units)), CDA())
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_coverage_of_a_stream_is_that_of_the_corpus():
    texts = ["She paid.", "It rained.", "A pregnant woman.", "Stephen King wrote.", "Mrs. Lee met the he-man."]
    counter = CoverageCounter()
    for text in texts:
        counter.add(record_views(text, CDA()))
    corpus = Corpus("x", tuple(Unit(str(i), (Record(str(i), text),)) for i, text in enumerate(texts)))
    assert counter.coverage() == augment(corpus, CDA()).coverage
    rows = counter.coverage().rows()
    assert rows[:2] == [("records", 5, ""), ("  with a counterfactual", 2, "40.0%")]
    assert ("  left: swap would be false", 1, "20.0%") in rows


def test_nothing_swapped_is_an_error_in_every_mode():
    corpus = Corpus("x", (Unit("0", (Record("0", "It rained."),)),))
    for cda in (CDA(), SUBSTITUTE, CDA(axes=("race",))):
        with pytest.raises(AugmentationError, match="changed none of 1 records"):
            augment(corpus, cda)
