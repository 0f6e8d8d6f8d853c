"""Values for the report: their definition in plain Python, and names that are not quite a metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arms_of_numbers import NumbersArm, ratios, tuned

from fairtest.errors import MetricError
from fairtest.gates.measure import measure
from fairtest.scoring.scores import ProbeScores


class Triples:
    """An arm scored on triples: log-probabilities [seeds, items, 3] of stereotype, anti-stereotype, unrelated."""

    name, tuned, kind = "dp", True, "causal"

    def __init__(self, log_probs):
        self.log_probs = log_probs

    def scores(self, probe_set, axis=None, protocol=None):
        assert (probe_set, axis) == ("stereoset", "gender")
        items = self.log_probs.shape[1]
        roles = ("stereotype", "anti_stereotype", "unrelated")
        return tuple(
            ProbeScores(
                probe_set="stereoset",
                probe_digest="d",
                protocol="causal-bos",
                ids=tuple(f"i{k}" for k in range(items)),
                axes=("gender",) * items,
                clusters=tuple(f"t{k // 10}" for k in range(items)),
                log_probs={role: tuple(seed[:, place]) for place, role in enumerate(roles)},
                tokens=dict.fromkeys(roles, (5,) * items),
            )
            for seed in self.log_probs
        )


def test_icat_is_that_of_the_mean_scores_and_its_interval_covers_resampled_terms():
    rng = np.random.default_rng(0)
    terms = rng.normal(0, 1, (1, 20, 1, 1)).repeat(10, axis=2).reshape(1, 200, 1)
    triples = rng.normal([0.6, 0.0, -1.5], 1.0, (3, 200, 3)) + terms * [0.5, 0.0, 0.0]
    found, seeds, items, clusters = measure(Triples(triples), "stereoset.icat[gender]", confidence=0.95)
    stereo, anti, none = np.moveaxis(triples, 2, 0)
    lms = 50 * ((stereo > none).mean() + (anti > none).mean())
    ss = 100 * (stereo > anti).mean()
    assert found.value == pytest.approx(lms * min(ss, 100 - ss) / 50)
    assert (seeds, items, clusters) == (3, 200, 20)
    spread = []
    for _ in range(300):
        drawn = np.concatenate([np.arange(10 * term, 10 * term + 10) for term in rng.integers(0, 20, 20)])
        more, less, other = stereo[:, drawn], anti[:, drawn], none[:, drawn]
        share = 100 * (more > less).mean()
        spread.append(50 * ((more > other).mean() + (less > other).mean()) * min(share, 100 - share) / 50)
    assert (found.high - found.low) / 2 > 1.7 * np.std(spread)


def test_perplexity_is_the_exponential_of_the_token_weighted_loss():
    arm = tuned("dp", 0.7, nll=[2.5, 2.6])
    held = arm.held_out()
    losses = [sum(row) / sum(held.tokens) for row in held.nll]
    found, *_ = measure(NumbersArm("dp", ratios(0.7, seeds=2), nll=[2.5, 2.6]), "perplexity", confidence=0.95)
    assert found.value == pytest.approx(math.exp(sum(losses) / 2))
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    "metric", ["perplexity[", "perplexity[]", "perplexity[x", "stereoset.icat[", "stereoset.icat[]", "", None, 3]
)
def test_a_name_that_is_not_quite_a_metric_is_refused(metric):
    with pytest.raises(MetricError):
        measure(tuned("dp", 0.7), metric, confidence=0.95)


def test_a_group_that_no_text_has_is_refused_with_those_there_are():
    with pytest.raises(MetricError, match=r"no held-out text has group 'men'[\s\S]*none \(set 'group_field'\)"):
        measure(tuned("dp", 0.7), "perplexity[men]", confidence=0.95)


def test_a_metric_of_masked_models_is_refused_before_anything_is_trained():
    class Untouched:
        name, kind = "dp", "causal"

        def __getattr__(self, name):
            pytest.fail(f"{name} was asked for")

    with pytest.raises(MetricError, match="reads scores of a masked model, and dp is a causal one"):
        measure(Untouched(), "crows_pairs.nangia2020", confidence=0.95)
