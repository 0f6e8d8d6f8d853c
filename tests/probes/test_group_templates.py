"""Our own probes on race and religion: minimal pairs, balanced between the two groups of each pair."""

import difflib
import math
import re
from collections import Counter, defaultdict

import pytest

from fairtest.errors import ProbeError
from fairtest.metrics import item_values, parse_metric
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE
from fairtest.probes.templates import AXES, GROUP_AXES, GROUP_FRAMES, gender_templates, group_templates, templates
from fairtest.scoring.scores import ProbeScores

DIGESTS = {
    "gender": "ec89c02e6a88823cfe3d6723a0d7211618bb402d052a54bedae03cc632b31aef",
    "race": "a6113aee243423c8a7c7dd02259072cbd8b249b3b0a36cae2e53ad81556824bb",
    "religion": "cd4b0fd0e7530fa319a53bcbb7727ae7e7689e9265c7d8a92701140bbd2aebe3",
}


def words(text):
    return re.findall(r"\w+|[^\w\s]", text)


def edits(probe):
    """(words of the stereotype, words of the other sentence) of every span in which they differ."""
    ours, other = words(probe.texts[STEREOTYPE]), words(probe.texts[ANTI_STEREOTYPE])
    matcher = difflib.SequenceMatcher(None, ours, other, autojunk=False)
    return [(ours[a:b], other[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]


def scored(probes, log_prob):
    """Scores as a model would give them whose log-probability of a text is `log_prob(text)`."""
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol="causal-bos",
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: tuple(log_prob(probe.texts[role]) for probe in probes.probes) for role in probes.roles},
        tokens={role: tuple(len(words(probe.texts[role])) for probe in probes.probes) for role in probes.roles},
        templates=probes.templates,
    )


def estimate(metric, scores):
    return item_values(parse_metric(metric), scores).estimate


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_what_it_was_when_its_scores_were_kept(axis):
    assert templates().only(axis).digest == DIGESTS[axis]


def test_the_whole_set_is_its_axes_one_after_the_other():
    whole = templates()
    assert (whole.name, whole.version, len(whole)) == ("templates", "1", 1240)
    assert Counter(probe.axis for probe in whole.probes) == {"gender": 640, "race": 300, "religion": 300}
    assert whole.only("gender").probes == gender_templates().probes
    assert all(whole.only(axis).probes == group_templates(axis).probes for axis in GROUP_AXES)


def test_where_no_axis_is_named_gender_is_meant():
    assert templates().axes == ("gender",)
    assert str(parse_metric("templates.log_ratio")) == "templates.log_ratio"
    assert parse_metric("templates.log_ratio").axis == "gender"
    assert parse_metric("templates.log_ratio[race]").axis == "race"
    assert parse_metric("stereoset.ss").axis is None
    both = scored(templates(), lambda text: -1.0 if text.startswith(("Most", "The nurse")) else -2.0)
    assert item_values(parse_metric("templates.log_ratio"), both).ids == tuple(p.id for p in gender_templates().probes)


def test_an_axis_that_it_has_not_is_answered_with_those_it_has():
    with pytest.raises(ProbeError) as caught:
        templates().only("age")
    assert caught.value.what == "probe set 'templates' has no item with axis 'age'"
    assert caught.value.fix == "axes it has: gender, race, religion"


@pytest.mark.parametrize("axis", GROUP_AXES)
def test_every_stereotype_is_told_once_in_every_frame(axis):
    probes = group_templates(axis).probes
    assert len({(probe.cluster, probe.template) for probe in probes}) == len(probes) == 300
    assert set(Counter(probe.cluster for probe in probes).values()) == {len(GROUP_FRAMES)}
    assert len({probe.cluster for probe in probes}) == 30
    assert not {probe.cluster for probe in probes} & {probe.cluster for probe in gender_templates().probes}


@pytest.mark.parametrize("axis", GROUP_AXES)
def test_pairs_differ_in_the_one_word_that_names_the_group(axis):
    for probe in group_templates(axis).probes:
        ((ours, other),) = edits(probe)
        assert (len(ours), len(other)) == (1, 1)
        assert ours[0].casefold() == probe.fields["group"].split()[0].casefold()
        assert other[0].casefold() == probe.fields["other"].split()[0].casefold()
        assert len(words(probe.texts[STEREOTYPE])) == len(words(probe.texts[ANTI_STEREOTYPE]))


@pytest.mark.parametrize("axis", GROUP_AXES)
def test_no_pair_and_no_sentence_is_there_twice(axis):
    texts = Counter(text for probe in group_templates(axis).probes for text in probe.texts.values())
    assert set(texts.values()) == {1}


@pytest.mark.parametrize("axis", GROUP_AXES)
def test_sentences_are_clean(axis):
    for probe in group_templates(axis).probes:
        for text in probe.texts.values():
            assert re.fullmatch(r"[A-Z][A-Za-z ,]*(\. [A-Z][A-Za-z ]*)?\.", text), text
            assert "  " not in text
            assert len(words(text)) <= 24


@pytest.mark.parametrize("axis", GROUP_AXES)
def test_two_groups_meet_as_often_one_way_as_the_other_in_every_frame(axis):
    meetings = defaultdict(Counter)
    for probe in group_templates(axis).probes:
        meetings[probe.template][probe.fields["group"], probe.fields["other"]] += 1
    for counts in meetings.values():
        assert counts == {(other, group): count for (group, other), count in counts.items()}
        assert set(counts.values()) == {3}


@pytest.mark.parametrize("axis", AXES)
def test_a_model_that_only_likes_some_words_more_is_found_unbiased(axis):
    def log_prob(text):
        return -math.fsum(1.0 + sum(map(ord, word.casefold())) % 97 for word in words(text))

    scores = scored(templates().only(axis), log_prob)
    assert estimate(f"templates.log_ratio[{axis}]", scores) == 0.0
    assert estimate(f"templates.preference[{axis}]", scores) == 50.0


@pytest.mark.parametrize("axis", AXES)
def test_swapping_the_two_sentences_of_every_pair_turns_the_share_around(axis):
    probes = templates().only(axis)
    scores = scored(probes, lambda text: -(sum(map(ord, text)) * 7919 % 1009) / 10)
    turned = scored(probes, lambda text: (sum(map(ord, text)) * 7919 % 1009) / 10)
    share = estimate(f"templates.preference[{axis}]", scores)
    assert 30 < share < 70
    assert share != 50.0
    assert estimate(f"templates.preference[{axis}]", turned) == pytest.approx(100.0 - share, abs=1e-9)


def test_a_model_that_holds_every_stereotype_is_found_out():
    wanted = {probe.texts[STEREOTYPE] for probe in templates().probes}
    scores = scored(templates(), lambda text: -1.0 if text in wanted else -3.0)
    for axis in AXES:
        assert estimate(f"templates.preference[{axis}]", scores) == 100.0
        assert estimate(f"templates.log_ratio[{axis}]", scores) == 2.0


def test_an_axis_that_is_not_made_of_groups_is_refused():
    with pytest.raises(ProbeError) as caught:
        group_templates("gender")
    assert caught.value.fix == "axes there are: race, religion"
