"""Gaps in what a model writes: what is measured, and that nothing is generated or scored twice, or lost."""

from __future__ import annotations

import json
import shutil
import statistics

import pytest

from fairtest.errors import MetricError, ProbeError
from fairtest.experiments.generation_scores import score_generations_of_model
from fairtest.metrics.generation import gap
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.prompts import prompt
from fairtest.scoring import generation
from fairtest.scoring.completions import Decoding, Generations
from fairtest.scoring.text_scorers import TextScorer, score_generations
from fairtest.statistics.intervals import mean_interval
from fairtest.store import Store
from fairtest.tiny import model_directory
from fairtest.training.models import load_model
from fairtest.training.sources import resolve_model

JOBS = ("nurse", "pilot", "baker", "miner")
WORDS = {"masculine": "He", "feminine": "She", "young": "She", "old": "He"}
DECODING = Decoding(samples=2, max_new_tokens=6)


def prompts_of(*axes, groups=("masculine", "feminine"), paired=True):
    probes = tuple(
        prompt(f"{axis}/{job}/{group}", axis, group, f"The {job} came. {WORDS[group]}", cluster=job, pair=job * paired)
        for axis in axes
        for job in JOBS
        for group in groups
    )
    return ProbeSet("mine", "1", "none", "here", probes)


def happiness(texts):
    return [min(1.0, len(text) / 40) for text in texts]


SCORER = TextScorer("length", "1", happiness)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def generated(monkeypatch):
    """The prompts that were continued, as (axis, group) of every call."""
    calls = []
    real = generation.generate

    def counted(loaded, prompts, *arguments, **options):
        calls.append((prompts.axes[0], *sorted({probe.fields["group"] for probe in prompts.probes})))
        return real(loaded, prompts, *arguments, **options)

    monkeypatch.setattr(generation, "generate", counted)
    return calls


def measure(prompts, store, *, model="fairtest/tiny", scorer=SCORER, **options):
    return score_generations_of_model(
        model, prompts, scorer, **{"decoding": DECODING, "store": store, "threads": 1, **options}
    )


@pytest.mark.parametrize("paired", [True, False])
def test_gaps_are_those_of_all_completions_made_at_once_with_the_interval_over_clusters(store, paired):
    prompts = prompts_of("gender", paired=paired)
    (axis,) = measure(prompts, store).axes
    at_once = generation.generate(load_model(resolve_model("fairtest/tiny")), prompts, DECODING)
    scores = score_generations(at_once, prompts, SCORER)
    assert [one.statistic for one in axis.gaps] == ["mean", "share", "maximum"]
    for one in axis.gaps:
        oracle = gap(scores, "masculine", "feminine", statistic=one.statistic)
        interval = mean_interval([oracle.items.values], list(oracle.items.clusters))
        assert (one.difference, one.ratio) == (oracle.difference, oracle.ratio)
        assert (one.first_value, one.second_value) == (oracle.first_value, oracle.second_value)
        assert (one.low, one.high) == (interval.low, interval.high)
    assert (axis.paired, axis.items, axis.clusters) == (paired, 4 if paired else 8, 4)
    assert (axis.prompts, axis.completions + axis.without_text) == (8, 16)


def test_the_mean_is_that_of_the_texts_in_plain_python(store):
    prompts = prompts_of("gender")
    (axis,) = measure(prompts, store).axes
    at_once = generation.generate(load_model(resolve_model("fairtest/tiny")), prompts, DECODING)
    means = {}
    for group in ("masculine", "feminine"):
        texts = [[g.text for g in at_once if g.prompt_id == f"gender/{job}/{group}" and g.text.strip()] for job in JOBS]
        means[group] = statistics.mean(statistics.mean(happiness(of_prompt)) for of_prompt in texts)
    assert axis.gaps[0].first_value == pytest.approx(means["masculine"])
    assert axis.gaps[0].difference == pytest.approx(means["masculine"] - means["feminine"])


def test_asking_twice_generates_and_scores_nothing_whatever_the_path(store, tmp_path, generated):
    asked = []
    scorer = TextScorer("length", "1", lambda texts: asked.append(len(texts)) or happiness(texts))
    first = measure(prompts_of("gender"), store, scorer=scorer)
    copied = tmp_path / "copy"
    shutil.copytree(model_directory(), copied)
    done = (list(generated), list(asked))
    again = measure(prompts_of("gender"), store, scorer=scorer, model=str(copied))
    assert (generated, asked) == done
    assert again.axes == first.axes
    assert again.model == str(copied)


def test_another_scorer_or_threshold_generates_nothing(store, generated):
    first = measure(prompts_of("gender"), store)
    assert generated == [("gender", "masculine"), ("gender", "feminine")]
    other = measure(prompts_of("gender"), store, scorer=TextScorer("minus", "1", lambda texts: [-1.0] * len(texts)))
    stricter = measure(prompts_of("gender"), store, threshold=2.0)
    assert len(generated) == 2
    assert (other.axes[0].gaps[0].first_value, other.axes[0].gaps[0].ratio) == (-1.0, None)
    assert stricter.axes[0].gaps[0] == first.axes[0].gaps[0]
    assert stricter.axes[0].gaps[1].first_value == 0.0


def test_another_revision_of_a_scorer_scores_anew_and_a_plain_function_always(store):
    asked = []

    def counted(texts):
        asked.append(1)
        return happiness(texts)

    for revision in ("1", "1", "2"):
        measure(prompts_of("gender"), store, scorer=TextScorer("length", revision, counted))
    assert len(asked) == 4  # two groups of two revisions
    for _ in range(2):
        assert measure(prompts_of("gender"), store, scorer=counted).revision == "unversioned"
    assert len(asked) == 8


def test_another_decoding_generates_anew_and_a_whole_number_is_the_same_temperature(store, generated):
    measure(prompts_of("gender"), store)
    measure(prompts_of("gender"), store, decoding=Decoding(samples=2, max_new_tokens=6, temperature=1, top_p=1))
    assert len(generated) == 2
    measure(prompts_of("gender"), store, decoding=Decoding(samples=2, max_new_tokens=6, seed=1))
    assert len(generated) == 4


def test_an_interruption_loses_no_axis_that_was_finished(store, monkeypatch):
    real, done = generation.generate, []

    def interrupted(loaded, prompts, *arguments, **options):
        if prompts.axes == ("race",) and "stopped" not in done:
            done.append("stopped")
            raise KeyboardInterrupt
        done.append(prompts.axes[0])
        return real(loaded, prompts, *arguments, **options)

    monkeypatch.setattr(generation, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(prompts_of("gender", "race"), store)
    found = measure(prompts_of("gender", "race"), store)
    assert done == ["gender", "gender", "stopped", "race", "race"]
    assert [axis.axis for axis in found.axes] == ["gender", "race"]


def test_a_scorer_that_fails_loses_no_completion(store, generated):
    with pytest.raises(MetricError, match="returned 0 values"):
        measure(prompts_of("gender"), store, scorer=lambda texts: [])
    measure(prompts_of("gender"), store)
    assert generated == [("gender", "masculine"), ("gender", "feminine")]


def test_a_second_pair_of_groups_generates_only_the_new_one(store, generated):
    prompts = prompts_of("gender", groups=("masculine", "young", "old"))
    measure(prompts, store, first="masculine", second="young")
    found = measure(prompts, store, first="old", second="young")
    assert generated == [("gender", "masculine"), ("gender", "young"), ("gender", "old")]
    assert (found.first, found.second) == ("old", "young")


def test_only_axes_with_both_groups_are_measured_and_the_one_that_is_named(store, generated):
    mixed = ProbeSet(
        "mine", "1", "none", "here", (*prompts_of("gender", "race").probes, *prompts_of("age", groups=("old",)).probes)
    )
    assert [axis.axis for axis in measure(mixed, store).axes] == ["gender", "race"]
    assert [axis.axis for axis in measure(mixed, store, axis="race").axes] == ["race"]
    assert ("age", "old") not in generated


def test_swapping_the_groups_turns_the_gap_round(store, generated):
    there = measure(prompts_of("gender"), store).axes[0].gaps[0]
    back = measure(prompts_of("gender"), store, first="feminine", second="masculine").axes[0].gaps[0]
    assert len(generated) == 2
    assert there.difference == -back.difference
    assert there.ratio == pytest.approx(1 / back.ratio)


def test_completions_without_a_text_are_counted_and_lost_pairs_have_a_reason(store, monkeypatch):
    real = generation.generate

    def silent(loaded, prompts, *arguments, **options):
        found = real(loaded, prompts, *arguments, **options).to_json()
        found["items"] = [
            [one, sample, " " if one == "gender/nurse/feminine" else text, tokens, ended]
            for one, sample, text, tokens, ended in found["items"]
        ]
        return Generations.from_json(found)

    monkeypatch.setattr(generation, "generate", silent)
    (axis,) = measure(prompts_of("gender"), store).axes
    assert axis.without_text == 2
    assert axis.excluded == {"no completion has a text": 1, "its pair has no prompt of the other group": 1}
    assert (axis.items, axis.prompts, axis.completions) == (3, 6, 12)


def test_one_cluster_has_no_interval_and_nothing_varying_is_marked(store):
    one = ProbeSet("mine", "1", "none", "here", prompts_of("gender").probes[:2])
    found = measure(one, store)
    assert found.as_dict()["axes"][0]["gaps"][0]["low"] is None
    assert json.dumps(found.as_dict(), allow_nan=False)
    flat = measure(prompts_of("gender"), store, scorer=TextScorer("flat", "1", lambda texts: [0.25] * len(texts)))
    assert [one.degenerate for one in flat.axes[0].gaps] == [True] * 3
    assert flat.axes[0].gaps[0].ratio == 1.0


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"first": "tall"}, "no axis of 'mine' has both groups 'tall' and 'feminine'", "gender: feminine, masculine"),
        ({"first": "feminine"}, "a gap of 'feminine' with itself", "name two groups"),
        ({"threshold": float("nan")}, "the threshold is nan", "0.5 is usual"),
        ({"scorer": "perspective"}, "unknown text scorer 'perspective'", "vader"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_generated(store, generated, options, what, fix):
    with pytest.raises(MetricError) as caught:
        measure(prompts_of("gender"), store, **options)
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert not generated


def test_without_the_usual_groups_the_groups_there_are_are_listed(store):
    with pytest.raises(MetricError, match="'mine' has no groups 'masculine' and 'feminine'") as caught:
        measure(prompts_of("age", groups=("young", "old")), store)
    assert caught.value.fix == "name two of one axis. age: old, young"
    with pytest.raises(ProbeError, match="has no item with axis 'height'"):
        measure(prompts_of("age"), store, axis="height")


def test_a_masked_model_and_a_set_of_pairs_are_refused(store, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(model_directory(), copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(MetricError, match="is a masked language model, which continues no prompt"):
        measure(prompts_of("gender"), store, model=str(copied))
    pairs = ProbeSet("pairs", "1", "none", "here", (Probe("a", "x", "c", {"stereotype": "s", "anti_stereotype": "t"}),))
    with pytest.raises(ProbeError, match="is no prompt"):
        measure(pairs, store)
