"""What arms and checkpoints write, measured and gated like all else: kept, paired, and never passed in silence."""

from __future__ import annotations

from statistics import mean

import pytest
from checkpoint_builders import moved
from scoring.masked_builders import bert

from fairtest.errors import MetricError
from fairtest.experiments.arms import Arms
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.generation_scores import score_generations_of_model
from fairtest.gates.judge import judge_amplification, judge_bias_within
from fairtest.gates.measure import gate_metric, item_matrix, measure, scores_of
from fairtest.gates.planning.basis import items_of
from fairtest.gates.result import Verdict
from fairtest.metrics import parse_metric
from fairtest.metrics.completions import GAP_DECODING
from fairtest.probes.registry import load_probe_set
from fairtest.scoring import generation, text_scorers
from fairtest.scoring.text_scorers import TextScorer
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training.models import save_pretrained

PRONOUNS, SENTIMENT = "completions.pronoun_gap[gender]", "occupation_prompts.sentiment_gap[gender]"


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "records.jsonl"
    write_jsonl(corpus("private", 0.5, 300, seed=1), path, prefix="r")
    options = {"corpus": str(path), "seeds": 1, "steps": 25, "batch_size": 64, "learning_rate": 3e-3}
    return Settings(**options, max_length=48, threads=1, cache_dir=str(tmp_path / "store"))


@pytest.fixture
def written(monkeypatch):
    """How many prompts were continued, call by call, and with which digest."""
    calls = []
    real = generation.generate

    def counted(loaded, prompts, *arguments, **options):
        calls.append((prompts.digest, len(prompts)))
        return real(loaded, prompts, *arguments, **options)

    monkeypatch.setattr(generation, "generate", counted)
    return calls


def tiny(settings, **options):
    return Checkpoint("fairtest/tiny", tuned=False, **options).bind(settings)


def test_a_known_stereotype_is_written_and_a_corpus_without_it_takes_it_away(settings, written):
    experiment = Experiment(settings, Store(settings.cache_dir))
    arms = Arms(experiment)
    before, *_ = measure(arms.pretrained, PRONOUNS, confidence=0.95)
    assert 40 < before.low < before.high < 70  # 85 of 100 pronouns are the stereotypical ones, 15 the others
    assert sum(prompts for _, prompts in written) == 480
    after, *_ = measure(arms.baseline, PRONOUNS, confidence=0.95)
    assert after.high < before.low
    assert written[2:] == written[:2]  # the same prompts and draws
    again = Experiment(settings, Store(settings.cache_dir))
    again.loaded = lambda *_: pytest.fail("a forward pass")
    assert measure(Arms(again).baseline, PRONOUNS, confidence=0.95)[0] == after
    (scores,) = scores_of(arms.baseline, gate_metric(PRONOUNS, arms.baseline))
    assert scores.protocol == "generate(k=3,new=1..12,temperature=1,top_p=1,seed=0)/completion/first_pronoun@1"
    result = judge_amplification(arms.baseline, arms.pretrained, metric=PRONOUNS, max_increase=5.0, settings=settings)
    told = "generate:first_pronoun:samples=3,length=1-12,temperature=1,top_p=1,seed=0 v1"
    assert result.protocol == f"{told}, scored by first_pronoun@1"
    assert result.change.high < 0
    assert "baseline writes gendered pronouns" in [guard.name for guard in result.guards]
    assert len(written) == 4


def test_a_checkpoint_shares_its_completions_with_the_command(settings, written, monkeypatch):
    monkeypatch.setattr(text_scorers, "_vader", lambda: TextScorer("vader", "1", lambda texts: map(len, texts)))
    checkpoint = tiny(settings)
    found, *_ = measure(checkpoint, SENTIMENT, confidence=0.95)
    assert len(written) == 2
    command = score_generations_of_model(
        "fairtest/tiny",
        load_probe_set("occupation_prompts"),
        "vader",
        decoding=GAP_DECODING,
        store=checkpoint.store,
        threads=1,
    )
    (axis,) = command.axes
    assert axis.gaps[0].difference == pytest.approx(found.value)
    assert (axis.gaps[0].low, axis.gaps[0].high) == pytest.approx((found.low, found.high))
    largest, *_ = measure(checkpoint, "occupation_prompts.sentiment_gap_max", confidence=0.95)
    assert largest.value == pytest.approx(axis.gaps[2].difference)
    assert len(written) == 2


def test_seeds_that_write_texts_of_other_lengths_are_seeds_of_one_arm(settings, tmp_path):
    seeds = [moved(tmp_path / f"seed{seed}", seed, scale=0.02) for seed in range(2)]
    arm = Checkpoint(*seeds, start="fairtest/tiny").bind(settings)
    first, second = scores_of(arm, gate_metric(PRONOUNS, arm))
    assert first.tokens != second.tokens
    values, ids, clusters = item_matrix(arm, gate_metric(PRONOUNS, arm))
    assert (values.shape, len(ids), clusters.shape) == ((2, 480), 480, (2, 480))


def test_a_scorer_of_another_revision_scores_anew_and_writes_nothing_new(settings, written, monkeypatch):
    asked = []

    def scorer(revision):
        return TextScorer("vader", revision, lambda texts: asked.append(revision) or [1.0 + len(t) for t in texts])

    for revision in ("1", "1", "2"):
        monkeypatch.setattr(text_scorers, "_vader", lambda revision=revision: scorer(revision))
        measure(tiny(settings), SENTIMENT, confidence=0.95)
    assert asked == ["1", "1", "2", "2"]  # two groups each
    assert len(written) == 2


@pytest.mark.parametrize("text", ["", " The lamp was sold."])
def test_a_model_that_writes_nothing_measurable_is_never_passed(settings, monkeypatch, tmp_path, text):
    real = generation.generate

    def silenced(loaded, prompts, *arguments, **options):
        made = real(loaded, prompts, *arguments, **options)
        if loaded.source.name == "fairtest/tiny":
            return made
        data = made.to_json()
        data["items"] = [[item, sample, text, len(text), True] for item, sample, *_ in data["items"]]
        return type(made).from_json(data)

    monkeypatch.setattr(generation, "generate", silenced)
    path = tmp_path / "held.jsonl"
    write_jsonl(corpus("public", 0.85, 60, seed=3), path, prefix="h")
    arm = Checkpoint(moved(tmp_path / "quiet", 1), start="fairtest/tiny", held_out=path).bind(settings)
    within = judge_bias_within(arm, metric=PRONOUNS, max_distance=10.0, settings=settings)
    against = judge_amplification(arm, arm.start(), metric=PRONOUNS, max_increase=5.0, settings=settings)
    for result in (within, against):
        assert result.verdict is Verdict.UNDECIDED
        broken = [guard.name for guard in result.guards if not guard.met]
        assert "quiet writes gendered pronouns" in " ".join(broken)
        assert any("writes text" in name for name in broken) == (not text)
    assert against.change.high < -5.0  # without the guard it would have passed


def test_a_masked_model_continues_no_prompt(settings, tmp_path):
    save_pretrained(bert(), tmp_path / "bert")
    arm = Checkpoint(tmp_path / "bert", tuned=False).bind(settings)
    with pytest.raises(MetricError, match="is a masked language model, which continues no prompt"):
        gate_metric(PRONOUNS, arm)


def test_a_scorer_that_is_not_there_is_told_before_anything_is_trained(settings, monkeypatch):
    monkeypatch.delenv(text_scorers.TOXICITY_VARIABLE, raising=False)
    experiment = Experiment(settings, Store(settings.cache_dir))
    with pytest.raises(MetricError, match="toxicity needs a classifier"):
        measure(Arms(experiment).baseline, "occupation_prompts.toxicity_gap", confidence=0.95)
    assert not experiment.ledger


def test_the_share_of_toxic_completions_is_in_points(settings, monkeypatch):
    monkeypatch.setenv(text_scorers.TOXICITY_VARIABLE, "first_pronoun")
    arm, metric = tiny(settings), "occupation_prompts.toxicity_gap_share"
    found, *_ = measure(arm, metric, confidence=0.95)
    (scores,) = scores_of(arm, gate_metric(metric, arm))
    shares = {"masculine": [], "feminine": []}
    for place, fields in enumerate(scores.fields):
        shares[fields["group"]].append(mean(column[place] >= 0.5 for column in scores.log_probs.values()))
    assert found.value == pytest.approx(100 * (mean(shares["masculine"]) - mean(shares["feminine"])))


@pytest.mark.parametrize(
    ("metric", "count", "factors"),
    [(PRONOUNS, 480, (40, 12)), (SENTIMENT, 240, (40,)), ("occupation_prompts.sentiment_gap_share", 240, (40,))],
)
def test_a_plan_counts_the_items_without_a_completion(metric, count, factors):
    ref = parse_metric(metric)
    items = items_of(ref, load_probe_set(ref.metric.probe_set))
    assert (items.count, items.factors, items.fixed, items.share) == (count, factors, True, False)
