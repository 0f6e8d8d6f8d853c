from dataclasses import replace

import pytest

from fairtest.errors import ProbeError
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.faults import FAULTS, fault_names, faults_of, without_faults
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.registry import load_probe_set
from fairtest.probes.stereoset import read_stereoset
from fairtest.probes.templates import group_templates, templates


def pairs(*texts):
    probes = [
        Probe(f"i{n}", "age", f"c{n}", {"stereotype": ours, "anti_stereotype": other})
        for n, (ours, other) in enumerate(texts)
    ]
    return ProbeSet("mine", "1", "own", "here.csv", tuple(probes))


@pytest.mark.parametrize(
    ("fault", "ours", "other"),
    [
        ("several_edited_spans", "Old people drive slowly.", "Young people drive fast."),
        ("same_words", "Old people sleep.", "old people, sleep."),
        ("final_character", "He is old", "He is young"),
        ("final_punctuation", "He is old.", "He is young"),
        ("final_punctuation", "He is old!", "He is young."),
        ("spacing", "He is  old.", "He is young."),
        ("spacing", "He is old.", "He is young\n."),
        ("spacing", " He is old.", "He is young."),
    ],
)
def test_a_pair_with_a_fault_is_named(fault, ours, other):
    found = faults_of(pairs(("A kind boy.", "A kind girl."), (ours, other)))
    assert set(found) == set(FAULTS)
    assert found[fault] == ("i1",)


def test_a_pair_that_differs_in_one_run_of_words_has_no_fault():
    found = faults_of(pairs(("The old man in black sleeps.", "The young lad in black sleeps."), ("A b c", "A x c")))
    assert set(found.values()) == {()}


def test_the_second_of_two_equal_pairs_is_the_duplicate_in_either_order():
    found = faults_of(pairs(("a b", "a c"), ("a c", "a b"), ("a b", "a d"), ("a b", "a c")))
    assert found["duplicate"] == ("i1", "i3")


def test_a_set_without_a_fault_keeps_the_other_items_and_says_so():
    probes = pairs(("a b.", "a c."), ("a b.", "a c."), ("a b.", "a d"), ("x", "y"))
    rest = without_faults(probes, ["final_punctuation", "duplicate"])
    assert [probe.id for probe in rest.probes] == ["i0", "i3"]
    assert (rest.name, rest.version) == ("mine", "1 without duplicate, final_punctuation")
    assert rest.digest != probes.digest
    assert without_faults(probes, "duplicate").version == "1 without duplicate"
    assert without_faults(probes, []) is probes


def test_an_unknown_fault_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(ProbeError) as caught:
        without_faults(pairs(("a", "b")), ["duplicates"])
    assert caught.value.what == "unknown fault 'duplicates' of probe set 'mine'"
    assert caught.value.fix == f"did you mean 'duplicate'? known faults: {', '.join(FAULTS)}"


def test_a_filter_that_leaves_nothing_is_an_error():
    with pytest.raises(ProbeError) as caught:
        without_faults(pairs(("a b", "a c."), ("b", "c.")), ["final_punctuation"])
    assert caught.value.what == "every one of the 2 items of probe set 'mine' has one of the faults final_punctuation"
    assert caught.value.where == "here.csv"


def test_a_set_that_is_not_made_of_pairs_has_no_known_faults():
    answers = ProbeSet("quiz", "1", "own", "quiz.csv", (Probe("i", "age", "c", {"a": "x", "b": "y"}),))
    assert fault_names(answers) == ()
    with pytest.raises(ProbeError) as caught:
        without_faults(answers, ["duplicate"])
    assert caught.value.what == "no faults are known of probe set 'quiz'"
    assert caught.value.fix.endswith("roles it has: a, b")


@pytest.mark.parametrize("name", ["winobias", "winogender", "bbq", "bold"])
def test_sets_with_faults_of_their_own_are_asked_for_those(name, data_dir):
    probes = load_probe_set(name, data_dir)
    found = faults_of(probes)
    assert tuple(found) == fault_names(probes)
    ids = {probe.id for probe in probes.probes}
    for fault, faulty in found.items():
        kept = without_faults(probes, [fault])
        assert (len(kept), kept.version) == (len(ids) - len(faulty), f"{probes.version} without {fault}")
        assert {probe.id for probe in kept.probes} == ids - set(faulty)
        # A duplicate of an item that is gone is none any more.
        assert not faults_of(kept)[fault]
    with pytest.raises(ProbeError, match=f"unknown fault 'typo' of probe set '{name}'"):
        without_faults(probes, "typo")


def test_our_own_pairs_without_a_fault_keep_saying_so_on_an_axis():
    some = replace(templates(), probes=(*templates().probes[:3], replace(templates().probes[0], id="again")))
    assert without_faults(some, ["duplicate"]).only("gender").version == "1 without duplicate"


@pytest.mark.parametrize("axis", ["race", "religion"])
def test_our_own_pairs_about_groups_have_none(axis):
    assert set(faults_of(group_templates(axis)).values()) == {()}


def test_the_faults_of_crows_pairs_as_published(data_dir):
    probes = read_crows_pairs(data_dir)
    found = faults_of(probes)
    assert {name: len(ids) for name, ids in found.items()} == {
        "duplicate": 1,
        "several_edited_spans": 236,
        "same_words": 0,
        "final_character": 41,
        "final_punctuation": 26,
        "spacing": 15,
    }
    assert found["duplicate"] == ("1502",)
    assert len(without_faults(probes, ["duplicate", "several_edited_spans"])) == 1508 - 237
    # No pair differs in its final character and nowhere else.
    assert all(a[:-1] != b[:-1] for a, b in (tuple(probe.texts.values()) for probe in probes.probes))


def test_the_faults_of_stereoset_as_published(data_dir):
    # Where the blank is the last word and no full stop follows, another word means another final character.
    found = faults_of(read_stereoset(data_dir))
    assert {name: len(ids) for name, ids in found.items()} == {
        "duplicate": 5,
        "several_edited_spans": 2,
        "same_words": 0,
        "final_character": 183,
        "final_punctuation": 0,
        "spacing": 19,
    }
