"""Metrics of what a model writes, against plain Python on completions made by hand."""

from __future__ import annotations

import statistics
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError, SettingsError
from fairtest.gates.written import written_guards
from fairtest.metrics import item_values, metric_names, parse_metric
from fairtest.metrics.completions import METRICS, gap_items
from fairtest.metrics.generation import gap
from fairtest.probes.frames import FEMALE_LEANING, vocabulary
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import PROMPT, completion_prompts, prompt
from fairtest.scoring import text_scorers
from fairtest.scoring.completions import Decoding, Generation, Generations
from fairtest.scoring.generation_protocols import GenerationProtocol, is_generation, parse_generation
from fairtest.scoring.pronouns import FEMININE, MASCULINE, first_pronoun
from fairtest.scoring.text_scorers import TextScorer, resolve_scorer, score_generations

STEREOTYPE = {"nurse": "feminine", "baker": "feminine", "pilot": "masculine", "miner": "masculine"}
WRITTEN = {
    "nurse": (" She opened the lamp.", " He saw her.", " Everyone knew that she was kind."),
    "baker": (" The woman sold it.", " Mr Novak was busy.", ""),
    "pilot": (" Someone asked HIM.", " himself and herself", " Hers was lost."),
    "miner": (" They heard the others.", " Sheher", " (he)"),
}
VALUES = {"nurse": 100 / 3, "baker": 0.0, "pilot": 100 / 3, "miner": 100 / 3}


def prompts_of(jobs):
    probes = (prompt(job, "gender", STEREOTYPE[job], f"The {job} came.", cluster=job, template="f") for job in jobs)
    return ProbeSet("completions", "1", "none", "here", tuple(probes))


def scored(written, probes, scorer="first_pronoun"):
    samples = len(next(iter(written.values())))
    items = tuple(
        Generation(name, sample, text, len(text.split()), True)
        for name, texts in written.items()
        for sample, text in enumerate(texts)
    )
    decoding = Decoding(samples=samples, max_new_tokens=9)
    made = Generations(probes.name, probes.digest, "m", "m", decoding, items)
    return score_generations(made, probes, scorer, silent=True)


def values_of(written):
    scores = scored(written, prompts_of(written))
    found = item_values(parse_metric("completions.pronoun_gap[gender]"), scores)
    return dict(zip(found.ids, found.values, strict=True)), found


def test_the_value_of_a_prompt_is_stereotypical_minus_other_first_pronouns_of_all_its_completions():
    values, found = values_of(WRITTEN)
    assert values == pytest.approx(VALUES)
    assert found.estimate == pytest.approx(25.0)
    assert found.ties == 1
    assert (found.clusters, found.templates) == (tuple(WRITTEN), ("f",) * 4)


words = st.lists(st.sampled_from(["he", "She", "her", "HIS", "the", "man", "Mr", "."]), max_size=4).map(" ".join)


@given(st.fixed_dictionaries({job: st.tuples(words, words) for job in STEREOTYPE}))
def test_the_pronoun_gap_is_its_definition(written):
    oracle = {}
    for job, texts in written.items():
        firsts = [
            next((word for word in text.lower().split() if word in (*MASCULINE, *FEMININE)), "") for text in texts
        ]
        own, other = (MASCULINE, FEMININE) if STEREOTYPE[job] == "masculine" else (FEMININE, MASCULINE)
        oracle[job] = 100 * statistics.mean((word in own) - (word in other) for word in firsts)
    assert values_of(written)[0] == pytest.approx(oracle)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" The then here ushers", 0.0),
        ("he", 1.0),
        ("\nHERS!", -1.0),
        ("'she' he", -1.0),
        ("him-self", 1.0),
        ("", 0.0),
    ],
)
def test_a_pronoun_is_a_whole_word_in_any_case(text, value):
    assert first_pronoun(text) == value


def test_the_prompts_name_no_gender_and_are_in_the_words_of_the_embedded_model():
    probes = completion_prompts()
    assert len(probes) == 480
    assert (len({p.cluster for p in probes.probes}), len(set(probes.templates))) == (40, 12)
    known = set(vocabulary())
    for probe in probes.probes:
        text = probe.texts[PROMPT]
        assert first_pronoun(text) == 0.0
        assert (probe.cluster in FEMALE_LEANING) == (probe.fields["group"] == "feminine")
        assert {word.strip(".:,") for word in text.split()} <= known
    assert completion_prompts().digest == probes.digest


def paired(*rows):
    """(pair, masculine texts, feminine texts) as prompts and what was written after them."""
    probes, written = [], {}
    for pair, *texts in rows:
        for group, own in zip(("masculine", "feminine"), texts, strict=True):
            probes.append(prompt(f"{pair}-{group}", "gender", group, f"{pair} {group}", cluster=pair[0], pair=pair))
            written[f"{pair}-{group}"] = own
    return ProbeSet("prompts", "1", "none", "here", tuple(probes)), written


LENGTH = TextScorer("length", "1", lambda texts: [len(text.strip()) / 4 for text in texts])
ROWS = (("a1", ("xx", "xxx"), ("x", "x")), ("a2", ("x", "xxxx"), ("xx", "xx")), ("b1", ("x", ""), ("xxx", "x")))


@pytest.mark.parametrize("statistic", ["mean", "share", "maximum"])
def test_the_items_of_a_gap_are_those_of_the_command(statistic):
    probes, written = paired(*ROWS)
    scores = scored(written, probes, LENGTH)
    scale = 100.0 if statistic == "share" else 1.0
    found = gap_items(scores, "masculine", "feminine", statistic=statistic, scale=scale)
    oracle = gap(scores, "masculine", "feminine", statistic=statistic)
    assert found.estimate == pytest.approx(scale * oracle.difference)
    assert (found.ids, found.clusters) == (oracle.items.ids, oracle.items.clusters)
    assert not found.uncounted


def test_a_pair_without_text_keeps_its_place_and_moves_nothing():
    probes, written = paired(*ROWS)
    silent = {**written, "a2-feminine": (" ", "")}
    one, two = (
        gap_items(scored(texts, probes, LENGTH), "masculine", "feminine", statistic="mean")
        for texts in (written, silent)
    )
    assert (one.ids, one.clusters) == (two.ids, two.clusters)
    assert two.uncounted == {"a2": "a group's completions have no text"}
    assert two.n == 2
    rest = gap_items(scored(*reversed(paired(ROWS[0], ROWS[2])), LENGTH), "masculine", "feminine", statistic="mean")
    assert two.estimate == pytest.approx(rest.estimate)


def test_prompts_that_are_not_paired_keep_their_places_too():
    names = ("American_actors", "American_actresses")
    texts = {"a": ("xx",), "b": ("",), "c": ("x",), "d": ("xxxx",)}
    probes = ProbeSet(
        "bold",
        "1",
        "none",
        "here",
        tuple(prompt(name, "gender", names[place // 2], name, cluster=name) for place, name in enumerate(texts)),
    )
    found = gap_items(scored(texts, probes, LENGTH), *names, statistic="mean")
    assert found.ids == ("a", "b", "c", "d")
    assert found.estimate == pytest.approx(0.5 - (0.25 + 1.0) / 2)
    assert set(found.uncounted) == {"b"}


def test_a_model_that_writes_nothing_has_constant_items_and_guards_that_say_so():
    probes, written = paired(*ROWS)
    silent = scored(dict.fromkeys(written, ("", " ")), probes, LENGTH)
    found = gap_items(silent, "masculine", "feminine", statistic="mean")
    assert (set(found.values), found.n) == ({0.0}, 0)
    (guard,) = written_guards("dp", [scored(written, probes, LENGTH), silent])
    assert (guard.name, guard.met) == ("dp writes text", False)
    assert guard.detail.startswith("0% of its completions have a text")


@pytest.mark.parametrize(("text", "met"), [(" It was sold.", False), (" She left.", True)])
def test_a_model_that_writes_no_pronoun_does_not_meet_the_guard(text, met):
    scores = scored(dict.fromkeys(STEREOTYPE, (text, text)), prompts_of(STEREOTYPE))
    texts, pronouns = written_guards("dp", [scores])
    assert texts.met
    assert (pronouns.name, pronouns.met) == ("dp writes gendered pronouns", met)


def test_the_metrics_say_how_completions_are_made_and_are_listed():
    assert {metric.name for metric in METRICS} <= set(metric_names())
    for metric in METRICS:
        assert is_generation(metric.scoring_protocol)
        assert metric.protocol == metric.scoring_protocol == str(parse_generation(metric.scoring_protocol))
        assert parse_metric(metric.name).axis == "gender"
        assert str(parse_metric(metric.name)) == metric.name
    protocol = parse_metric("prompts.sentiment_gap[gender]").metric.protocol
    assert protocol == "generate:vader:samples=5,length=1-20,temperature=1,top_p=1,seed=0"


def test_an_axis_with_more_than_two_groups_is_refused_by_name():
    with pytest.raises(MetricError, match="only axis 'gender' has just two"):
        parse_metric("prompts.sentiment_gap[race]")


@pytest.mark.parametrize("scorer", ["vader", "hf:/a:b/model:toxic", "toxicity"])
def test_a_protocol_is_read_as_it_was_written(scorer):
    protocol = GenerationProtocol(scorer, Decoding(samples=3, max_new_tokens=7, temperature=0.5, top_p=0.9, seed=4))
    assert parse_generation(str(protocol)) == protocol


@pytest.mark.parametrize("text", ["causal-bos", "generate:vader", "generate::samples=1,length=1-2,temperature=1"])
def test_what_is_no_protocol_is_refused(text):
    with pytest.raises(MetricError, match="does not say how completions are made"):
        parse_generation(text)


def test_a_decoding_that_cannot_be_is_refused():
    with pytest.raises(SettingsError, match="samples is 0"):
        parse_generation("generate:vader:samples=0,length=1-20,temperature=1,top_p=1,seed=0")


def test_toxicity_without_a_classifier_says_where_to_name_one(monkeypatch):
    monkeypatch.delenv(text_scorers.TOXICITY_VARIABLE, raising=False)
    with pytest.raises(MetricError, match="toxicity needs a classifier") as caught:
        resolve_scorer("toxicity")
    assert "FAIRTEST_TOXICITY_SCORER" in caught.value.fix


def test_toxicity_is_what_the_environment_names(monkeypatch):
    monkeypatch.setenv(text_scorers.TOXICITY_VARIABLE, "first_pronoun")
    assert resolve_scorer("toxicity").name == "first_pronoun"


SCORER = TextScorer("toxicity", "7", lambda texts: [0.0] * len(texts))
NUMBER = 3


def plain(texts):
    return [0.5] * len(texts)


def install(monkeypatch, value):
    def entry_points(*, group, name):
        return [EntryPoint(name, value, group)] if (group, name) == ("fairtest.scorers", "toxicity") else []

    monkeypatch.delenv(text_scorers.TOXICITY_VARIABLE, raising=False)
    monkeypatch.setattr(text_scorers.importlib.metadata, "entry_points", entry_points)


def test_a_package_brings_a_scorer(monkeypatch):
    install(monkeypatch, f"{__name__}:SCORER")
    assert resolve_scorer("toxicity") is SCORER
    install(monkeypatch, f"{__name__}:plain")
    assert resolve_scorer("toxicity").revision == "unversioned"


@pytest.mark.parametrize(
    ("value", "what"), [("no_such_module_here:X", "cannot be loaded"), (f"{__name__}:NUMBER", "scores no texts")]
)
def test_a_package_whose_scorer_is_none_is_named(monkeypatch, value, what):
    install(monkeypatch, value)
    with pytest.raises(MetricError, match=what):
        resolve_scorer("toxicity")
