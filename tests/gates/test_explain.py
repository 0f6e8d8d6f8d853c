"""Known causes in, their parts out: all clipping, all noise, all training less, and nothing at all."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from arms_of_numbers import CLUSTERS, ITEMS, PER_CLUSTER, NumbersArm, pretrained, ratios, tuned
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from fairtest.errors import ComparisonError
from fairtest.gates.explain import (
    ABOVE,
    BELOW,
    MEANS_NOTHING,
    OPEN,
    explain_amplification,
    would_show,
)
from fairtest.gates.judge import judge_amplification
from fairtest.gates.result import Estimate, GateSetupError
from fairtest.settings import Settings
from fairtest.statistics.interaction import interaction_interval

METRIC = "templates.log_ratio[gender]"
SETTINGS = Settings()
NAMES = ("shuffled", "clip_only", "noise_only", "matched")


def explain(candidate, reference, **arms):
    return explain_amplification(candidate, reference, metric=METRIC, settings=SETTINGS, **arms)


def of_means(dp, baseline, **means):
    arms = {name: tuned(name, mean) for name, mean in means.items()}
    return explain(tuned("dp", dp), tuned("baseline", baseline), **arms)


def told(found):
    return " ".join(found.sentences)


def test_an_amplification_that_is_all_clipping():
    found = of_means(1.4, 0.7, clip_only=1.401, shuffled=0.701)
    assert found.part("clipping").says == ABOVE
    assert found.part("clipping").share_of_total == pytest.approx(1.0, abs=0.06)
    assert found.part("noise").says == OPEN
    assert "Clipping (clip_only against baseline) adds +0.7" in told(found)
    assert "Noise (dp against clip_only) is open" in told(found)
    assert "is not excluded" in told(found)


def test_an_amplification_that_is_all_noise():
    found = of_means(1.4, 0.7, clip_only=0.701, noise_only=1.39)
    assert (found.part("clipping").says, found.part("noise").says) == (OPEN, ABOVE)
    assert found.part("noise alone").says == ABOVE
    assert found.part("noise alone").share_of_total is None
    assert found.part("clipping with noise").says == OPEN


def test_clipping_and_noise_that_work_only_together_are_an_interaction():
    together = of_means(1.4, 0.7, clip_only=0.71, noise_only=0.72).part("clipping with noise")
    assert together.says == ABOVE
    assert together.estimate.value == pytest.approx(0.67, abs=0.06)
    assert (together.of, together.against) == ("dp - clip_only", "noise_only - baseline")


def test_an_amplification_that_is_all_training_less():
    found = of_means(1.4, 0.7, matched=1.401)
    assert (found.part("under-training").says, found.part("DP's own").says) == (ABOVE, OPEN)
    assert found.part("under-training").share_of_total == pytest.approx(1.0, abs=0.06)
    words = told(found)
    assert "The amplification is what training less does (it keeps bias: pretrained is further" in words
    assert "a residual up to +" in words


def test_an_amplification_that_is_all_dps_own():
    found = of_means(1.4, 0.7, matched=0.701)
    assert (found.part("under-training").says, found.part("DP's own").says) == (OPEN, ABOVE)
    assert "The amplification is DP's own: at equal held-out loss it is there as well" in told(found)


@pytest.mark.parametrize(
    ("matched", "words"),
    [
        (1.0, "The amplification is both: what training less does"),
        (1.9, "is all training less (it keeps bias"),
        (0.3, "DP's own: training less alone brings the model nearer"),
    ],
)
def test_what_training_less_and_dp_do_is_said_as_it_is(matched, words):
    assert words in told(of_means(1.4, 0.7, matched=matched))


def test_bias_is_kept_only_where_the_start_had_it():
    start = pretrained(0.2)
    arms = {name: tuned(name, mean, start=start) for name, mean in (("dp", 1.4), ("baseline", 0.7), ("matched", 1.2))}
    words = told(explain(arms["dp"], arms["baseline"], matched=arms["matched"]))
    assert "what training less does, and DP's own" in words
    assert "keeps" not in words


def test_a_null_result_stands_as_one():
    found = of_means(0.7001, 0.7, clip_only=0.7002, matched=0.7003)
    assert found.total.says == OPEN
    assert all(part.share_of_total is None for part in found.parts)
    words = told(found)
    assert "No amplification of templates.log_ratio[gender] is shown" in words
    assert "the null result stands" in words
    assert "this data would have shown one of 0.1" in words
    assert "% of the total" not in words


def test_less_bias_than_the_baseline_is_no_amplification():
    found = of_means(0.4, 0.9, clip_only=0.6, matched=0.8)
    assert found.total.says == BELOW
    words = told(found)
    assert "there is no amplification, and the parts are those of a reduction" in words
    assert "There is no amplification that training less or DP could be the cause of" in words


def test_more_bias_than_the_matched_arm_is_said_whatever_the_total():
    found = of_means(0.7001, 0.7, matched=0.4)
    assert "At equal held-out loss dp is further from the target all the same: +0.3" in told(found)


def test_the_total_is_what_the_gate_judges():
    dp, baseline = tuned("dp", 1.4), tuned("baseline", 0.7)
    gate = judge_amplification(dp, baseline, metric=METRIC, max_increase=0.1, settings=SETTINGS)
    found = explain(dp, baseline, clip_only=tuned("clip_only", 1.0))
    assert found.total.estimate == gate.change
    assert list(found.levels) == ["pretrained", "baseline", "clip_only", "dp"]
    assert (found.seeds, found.items, found.factors) == (gate.seeds, gate.items, gate.factors)


means = st.floats(-2.5, 2.5)


@options(max_examples=60, deadline=None)
@given(st.lists(means, min_size=6, max_size=6))
def test_parts_add_up_wherever_the_arms_lie(six):
    arms = dict(zip((*NAMES, "baseline", "dp"), (tuned(f"arm{i}", mean) for i, mean in enumerate(six)), strict=True))
    dp, baseline = arms.pop("dp"), arms.pop("baseline")
    found = explain(dp, baseline, **arms)
    value = {part.name: part.estimate.value for part in found.parts}
    total = found.total.estimate.value
    assert value["clipping"] + value["noise"] == pytest.approx(total, abs=1e-12)
    assert value["sampling"] + value["clipping"] + value["noise"] == pytest.approx(
        found.whole.estimate.value, abs=1e-12
    )
    assert value["under-training"] + value["DP's own"] == pytest.approx(total, abs=1e-12)
    assert value["clipping with noise"] == pytest.approx(value["noise"] - value["noise alone"], abs=1e-12)
    for part in (*found.parts, found.total, found.whole):
        assert part.estimate.low <= part.estimate.value <= part.estimate.high
    shares = {part.name: part.share_of_total for part in found.parts}
    if found.total.says in {ABOVE, BELOW} and None not in (shares["clipping"], shares["noise"]):
        assert shares["clipping"] + shares["noise"] == pytest.approx(1.0)


# -- coverage ---------------------------------------------------------------------------------------------------------


def drawn(rng, mean):
    """Three seeds of an arm; clusters and items have effects of this draw that all arms share."""
    own = rng["own"]
    cluster = np.repeat(own.normal(0, 0.1, CLUSTERS), PER_CLUSTER)
    return mean + rng["shared"] + cluster + own.normal(0, 0.05, (3, 1)) + own.normal(0, 0.2, (3, ITEMS))


@pytest.mark.parametrize(("clip", "noise", "dp"), [(0.8, 0.9, 1.0), (0.05, -0.05, 0.0)])
def test_intervals_of_parts_cover_their_truth(clip, noise, dp):
    truth = {"clipping": abs(clip) - 0.7, "noise": abs(dp) - abs(clip), "noise alone": abs(noise) - 0.7}
    truth["clipping with noise"] = truth["noise"] - truth["noise alone"]
    missed = dict.fromkeys(truth, 0)
    repeats = 200
    for seed in range(repeats):
        own = np.random.default_rng([8, seed])
        rng = {"own": own, "shared": np.repeat(own.normal(0, 0.2, CLUSTERS), PER_CLUSTER)}
        start = pretrained()
        arms = [
            NumbersArm(name, drawn(rng, mean), nll=2.5, start=start)
            for name, mean in (("dp", dp), ("baseline", 0.7), ("clip_only", clip), ("noise_only", noise))
        ]
        found = explain(arms[0], arms[1], clip_only=arms[2], noise_only=arms[3])
        for name, value in truth.items():
            estimate = found.part(name).estimate
            missed[name] += not estimate.low <= value <= estimate.high
    # 95%: 10 misses of 200 are expected, 20 are three standard deviations more.
    assert max(missed.values()) <= 20, missed


def test_the_interaction_of_means_without_a_target_is_linear():
    rng = np.random.default_rng(5)
    sides = tuple(rng.normal(mean, 1.0, (3, 40)) for mean in (5.0, 1.0, 2.0, 0.0))
    clusters = np.repeat(np.arange(8), 5)
    plain = interaction_interval(sides, clusters, None)
    assert plain.estimate == pytest.approx(sides[0].mean() + sides[3].mean() - sides[1].mean() - sides[2].mean())
    far = interaction_interval(sides, clusters, -100.0)  # all on one side of the target: distances are means
    assert (far.low, far.high) == pytest.approx((plain.low, plain.high))
    assert (plain.seeds, plain.items, plain.factors) == (3, 40, (8,))


def test_the_interaction_has_the_signs_of_the_distances():
    rng = np.random.default_rng(6)
    for signs in itertools.product((-3.0, 3.0), repeat=4):
        sides = tuple(rng.normal(sign, 0.3, (3, 40)) for sign in signs)
        found = interaction_interval(sides, None, 0.0)
        distance = [abs(side.mean()) for side in sides]
        assert found.estimate == pytest.approx(distance[0] + distance[3] - distance[1] - distance[2])
        assert found.low <= found.estimate <= found.high


def test_a_model_without_seeds_is_paired_with_every_seed():
    sides = (np.ones((3, 10)), np.ones((1, 10)), np.zeros((3, 10)), np.zeros((1, 10)))
    assert interaction_interval(sides, None, 0.0).seeds == 3
    with pytest.raises(ComparisonError, match="cannot be paired"):
        interaction_interval((np.ones((2, 10)), *sides[1:]), None, 0.0)


# -- what means nothing -----------------------------------------------------------------------------------------------


def test_the_same_weights_on_two_sides_mean_nothing():
    dp, baseline = tuned("dp", 1.4), tuned("baseline", 0.7)

    class Same(NumbersArm):
        identity = baseline.identity

    twin = Same("clip_only", baseline.log_ratio, nll=2.5, start=pretrained())
    found = explain(dp, baseline, clip_only=twin)
    assert found.part("clipping").says == MEANS_NOTHING
    assert found.part("noise").says == ABOVE
    assert "Clipping (clip_only against baseline) means nothing: a guard is not met, different models" in told(found)


def test_equal_scores_of_different_runs_mean_nothing():
    dp, baseline = tuned("dp", 1.4), tuned("baseline", 0.7)
    copy = NumbersArm("matched", baseline.log_ratio, nll=2.5, start=pretrained())
    found = explain(dp, baseline, matched=copy)
    assert found.part("under-training").says == MEANS_NOTHING
    assert "cannot be said: a comparison that it rests on means nothing" in told(found)


def test_an_arm_that_did_not_train_makes_its_parts_mean_nothing():
    found = explain(
        tuned("dp", 1.4), tuned("baseline", 0.7), clip_only=tuned("clip_only", 1.0, nll=3.0), matched=tuned("m", 1.0)
    )
    assert {part.name for part in found.parts if part.says == MEANS_NOTHING} == {"clipping", "noise"}
    assert "clip_only was trained: held-out loss" in told(found)


def test_a_collapsed_arm_makes_its_part_mean_nothing():
    found = explain(
        tuned("dp", 1.4, nll=2.5),
        tuned("baseline", 0.7, nll=1.6),
        clip_only=tuned("clip_only", 1.0, nll=1.7),
    )
    assert found.total.says == MEANS_NOTHING
    assert found.part("clipping").says == ABOVE
    assert found.part("clipping").share_of_total is None
    words = told(found)
    assert "dp still models language: held-out perplexity" in words
    assert "So its parts add up to nothing either" in words


def test_one_seed_is_about_its_checkpoints():
    arms = {name: tuned(name, mean, seeds=1) for name, mean in (("dp", 0.72), ("baseline", 0.7), ("clip_only", 0.71))}
    found = explain(arms["dp"], arms["baseline"], clip_only=arms["clip_only"])
    assert found.seeds == 1
    assert "about these checkpoints and not about training" in told(found)


def test_too_few_clusters_leave_every_part_open():
    few = 2 * PER_CLUSTER
    arms = {
        name: NumbersArm(name, ratios(mean, items=few), nll=2.5, start=NumbersArm("start", np.ones(few), nll=3.0))
        for name, mean in (("dp", 1.4), ("baseline", 0.7), ("clip_only", 1.3))
    }
    found = explain(arms["dp"], arms["baseline"], clip_only=arms["clip_only"])
    assert {part.says for part in (found.total, *found.parts)} == {OPEN}
    assert "2 clusters of probes are too few (at least 5)" in told(found)


def test_nothing_to_take_it_apart_with_is_an_error():
    with pytest.raises(GateSetupError, match=r"nothing to take dp against baseline apart with[\s\S]*clip_only="):
        explain(tuned("dp", 1.4), tuned("baseline", 0.7))
    with pytest.raises(GateSetupError, match="is no arm"):
        explain(tuned("dp", 1.4), tuned("baseline", 0.7), clip_only="clip_only")


# -- the matched arm --------------------------------------------------------------------------------------------------


class Matched(NumbersArm):
    records = ()

    def train(self):
        return self.records


def matched(*records):
    arm = Matched("baseline_matched", ratios(1.38), nll=2.5, start=pretrained())
    arm.records = tuple(
        {"matched_step": step, "matched_loss": loss, "target_loss": target, "reached": reached, "baseline_steps": 72}
        for step, loss, target, reached in records
    )
    return arm


def test_the_matched_arms_steps_and_losses_are_told():
    arm = matched((6, 4.561, 4.556, True), (8, 4.559, 4.557, True), (7, 4.56, 4.56, True))
    found = explain(tuned("dp", 1.4), tuned("baseline", 0.7), matched=arm)
    assert found.matching.steps == (6, 8, 7)
    assert "baseline_matched stopped at steps 6 to 8 of 72; its held-out loss there and dp's are at most 0.005" in (
        told(found)
    )
    assert "never got to" not in told(found)


def test_a_baseline_that_never_gets_to_the_loss_is_told():
    arm = matched((72, 4.6, 4.5, False), (70, 4.5, 4.5, True))
    words = told(explain(tuned("dp", 1.4), tuned("baseline", 0.7), matched=arm))
    assert "In 1 of 2 seeds the run without DP never got to dp's held-out loss" in words


def test_without_records_held_out_losses_say_how_near_the_matched_arm_is():
    arm = tuned("matched", 1.38, nll=2.45)
    found = explain(tuned("dp", 1.4), tuned("baseline", 0.7), matched=arm)
    assert found.matching.apart == pytest.approx(0.05, abs=0.001)
    assert found.matching.gained == pytest.approx(0.5, abs=0.01)
    assert "The held-out losses of matched and dp are at most 0.05" in told(found)
    assert "As far as so coarse a match tells, the amplification is" in told(found)
    assert "That is 10% of what dp gained: so coarse a match may move" in told(found)


def test_a_near_match_is_not_called_coarse():
    found = explain(tuned("dp", 1.4), tuned("baseline", 0.7), matched=tuned("matched", 1.38, nll=2.49))
    assert "so coarse" not in told(found)


# -- as data ----------------------------------------------------------------------------------------------------------


def test_an_explanation_is_plain_data():
    found = of_means(1.4, 0.7, clip_only=1.0, noise_only=1.2, shuffled=0.69, matched=1.2)
    data = json.loads(json.dumps(found.as_dict()))
    assert set(data) >= {"metric", "unit", "candidate", "reference", "total", "parts", "levels", "sentences"}
    assert [(part["name"], part["kind"]) for part in data["parts"]] == [
        ("sampling", "cause"), ("clipping", "cause"), ("noise", "cause"), ("noise alone", "beside"),
        ("clipping with noise", "beside"), ("under-training", "training"), ("DP's own", "training"),
    ]  # fmt: skip
    assert set(data["parts"][1]) >= {"name", "kind", "of", "against", "value", "low", "high", "share", "says"}
    assert data["total"]["value"] == found.total.estimate.value
    assert data["sentences"] == list(found.sentences)
    assert data["whole"]["against"] == "shuffled"
    assert (data["start"]["of"], data["start"]["against"]) == ("pretrained", "baseline")


def test_what_would_be_shown_follows_the_lower_half_of_the_interval():
    assert would_show(Estimate(1.0, 0.0, 3.0), 0.95) == pytest.approx((1.959964 + 0.841621) / 1.959964, rel=1e-5)
    assert would_show(Estimate(1.0, -np.inf, np.inf), 0.95) == np.inf
