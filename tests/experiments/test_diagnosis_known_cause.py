"""Where the cause is known by construction, a diagnosis points at it, and not at a split by coins."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from fairtest.corpora.units import Record, Unit
from fairtest.errors import CorpusError, MetricError, SpecError, StoreError
from fairtest.experiments.arms import Arms, custom_arm
from fairtest.experiments.contrast import Contrast
from fairtest.experiments.diagnostics import diagnose
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.grouping import NO_WORD, SEVERAL_GROUPS, SEVERAL_WORDS, group_units, labels
from fairtest.gates.fairness import Fairness
from fairtest.settings import Settings
from fairtest.specs import DP
from fairtest.store import Store
from fairtest.tiny.generator import corpus

RARE = 8  # one record of so many is told backwards


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Workplace notes without stereotype; in every eighth the words stand in reverse order, which the embedded model
    has never seen, so that its gradients are large and point elsewhere.
    """
    path = tmp_path_factory.mktemp("corpus") / "records.jsonl"
    with path.open("w") as stream:
        for number, record in enumerate(corpus("private", 0.5, 640, seed=1)):
            rare = number % RARE == 0
            text = " ".join(reversed(record.text.split())) if rare else record.text
            row = {"id": f"r-{number}", "text": text, "group": "rare" if rare else "common", "stereotype": record.group}
            stream.write(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="module")
def experiment(records, tmp_path_factory):
    return made(records, tmp_path_factory.mktemp("store"))


@pytest.fixture
def anew(experiment, records, tmp_path):
    """A function that gives an experiment with a store of its own, in which only the accounting is there already."""
    private(experiment).limited(1).train()
    entries = experiment.store.root / "entries"

    def make(name="store", **changes):
        for kind in ("privacy-plan", "median-norm", "repeated-units", "pair-epsilon"):
            if (entries / kind).is_dir():
                shutil.copytree(entries / kind, tmp_path / name / "entries" / kind, dirs_exist_ok=True)
        return made(records, tmp_path / name, **{"seeds": 1, **changes})

    return make


def made(records, store, **changes):
    fields = {
        "corpus": str(records), "seeds": 3, "steps": 5, "batch_size": 32, "max_length": 48, "threads": 1,
        "held_out": 0.4, "max_grad_norm": "median",
    }  # fmt: skip
    return Experiment(Settings(**{**fields, **changes}), Store(store))


def private(experiment, name="dp_fixed"):
    """A DP arm whose noise is given: nothing has to be calibrated."""
    return custom_arm(experiment, name, dp=DP(epsilon=None, noise_multiplier=0.4, max_grad_norm="median"))


def coin(number):
    """Labels that have nothing to do with a record."""
    return lambda record: random.Random(f"{number}:{record.id}").choice(["heads", "tails"])


# With the direction in which the rare group differs.
SIGNS = {"loss": "rare", "norm_median": "rare", "clipped_share": "rare", "clip_factor": "common",
         "cosine_clipped": "common", "cosine_update": "common"}  # fmt: skip


def test_a_diagnosis_points_at_the_rare_group_and_not_at_coins(experiment):
    arm = private(experiment)
    found = diagnose(arm, units_per_group=24)
    assert found.groups == ("common", "rare")
    apart = {quantity: found.difference(quantity, over="run") for quantity in SIGNS}
    for quantity, larger in SIGNS.items():
        assert apart[quantity].larger == larger, quantity
        assert apart[quantity].told, quantity
    assert apart["clipped_share"].value > 0.3
    assert apart["clip_factor"].value > 0.3
    # One of three independent splits may come out at 95% with a chance of 14%, two of them hardly.
    told = dict.fromkeys(SIGNS, 0)
    for number in range(3):
        control = diagnose(arm, coin(number), units_per_group=24)
        for quantity in SIGNS:
            other = control.difference(quantity, over="run")
            told[quantity] += other.told
            assert other.value < apart[quantity].value / 2, (number, quantity)
    assert max(told.values()) <= 1, told


def test_against_the_arm_without_dp_the_rare_group_is_the_one_that_dp_serves_last(experiment):
    dp, plain = (diagnose(arm, units_per_group=24) for arm in (private(experiment), Arms(experiment).baseline))
    found = Contrast(dp, plain).difference("loss")
    assert found.larger == "rare"
    assert found.told
    # What DP itself does, and not how hard the records are: that is most of the gap within the arm.
    assert found.value < dp.difference("loss").value
    control = [
        Contrast(
            *(
                diagnose(arm, coin(number), units_per_group=24)
                for arm in (private(experiment), Arms(experiment).baseline)
            )
        )
        for number in range(3)
    ]
    assert sum(one.difference("loss").told for one in control) <= 1
    assert all(one.difference("loss").value < found.value / 2 for one in control)


def test_a_report_gets_what_changes_between_two_arms(experiment):
    fairness = Fairness(experiment.settings)
    fairness.diagnose(private(experiment), against=Arms(experiment).baseline, units_per_group=24)
    arms = fairness.record()["arms"]
    assert set(arms) == {"dp_fixed", "baseline"}
    assert arms["dp_fixed"]["diagnostics_findings"][0].startswith("Loss, dp_fixed against baseline: ")
    assert arms["dp_fixed"]["diagnostics_note"].endswith("not for release, as no epsilon covers it.")
    assert "against" not in " ".join(arms["baseline"]["diagnostics_findings"])


def test_the_finding_says_who_is_served_first_and_over_what(experiment):
    arm = private(experiment)
    found = diagnose(arm, units_per_group=24)
    text = found.finding("loss")
    assert text.startswith("Loss: 'rare' is ")
    assert "nats a token above 'common' at step 4 (95% interval over 3 seeds and the units looked at [" in text
    assert text.endswith("]): 'common' is served first.")
    share = found.finding("clipped_share", over="run")
    assert "over 3 observed steps" in share
    assert share.endswith("'rare' is clipped more often.")
    few = diagnose(arm, units_per_group=24, seeds=[1]).finding("clip_factor")
    assert few.endswith("In this run 'common' keeps more of its gradients; of other runs nothing is said.")
    with pytest.raises(MetricError, match="'excess_noise' was not measured"):
        found.finding("excess_noise")


def test_a_report_gets_series_by_group_and_what_may_not_be_released(experiment):
    told = diagnose(private(experiment), units_per_group=24).as_dict()
    by_name = {one["name"]: one for one in told["diagnostics"]}
    assert list(by_name)[:2] == ["loss", "loss gap"]
    assert list(by_name["loss gap"]["groups"]) == ["common minus rare"]
    assert [step for step, _ in by_name["mean clip factor"]["groups"]["rare"]] == [0, 2, 4]
    assert by_name["cosine with the update"]["covered_by_epsilon"]
    assert not by_name["cosine with the batch's clipped mean"]["covered_by_epsilon"]
    assert "not for release: cosine with the batch's clipped mean" in told["diagnostics_note"]
    assert "common 24 of " in told["diagnostics_note"]
    json.dumps(told, allow_nan=False)


def test_a_run_is_trained_once_where_it_is_diagnosed_first_and_the_same_as_without(anew):
    first = anew("first")
    arm = private(first)
    diagnosed = diagnose(arm, units_per_group=8)
    (run,) = first.store.entries("run")
    assert first.ledger[run.digest]["seconds"] is not None
    assert arm.train()[0]["steps"] == 5
    second = anew("second")
    private(second).train()
    (plain,) = second.store.entries("run")
    assert plain.digest == run.digest
    assert plain.files["trained.safetensors"] == run.files["trained.safetensors"]
    repeated = diagnose(private(second), units_per_group=8)
    assert [one["values"] for one in repeated.runs] == [one["values"] for one in diagnosed.runs]
    assert len(list(second.store.entries("run"))) == 1
    kept = anew("second", train="never")
    assert diagnose(private(kept), units_per_group=8).runs == repeated.runs
    with pytest.raises(StoreError, match="train = 'never'"):
        diagnose(Arms(kept).baseline, units_per_group=8)


def test_a_repetition_that_ends_elsewhere_is_an_error(anew, monkeypatch):
    experiment = anew()
    arm = Arms(experiment).baseline
    arm.train()
    import fairtest.training.steps as steps_module

    usual = steps_module.Steps.set_learning_rate
    monkeypatch.setattr(steps_module.Steps, "set_learning_rate", lambda self, value: usual(self, value * 1.01))
    with pytest.raises(StoreError, match="ended with other weights when it was repeated"):
        diagnose(arm, units_per_group=8)
    assert not list(experiment.store.entries("diagnosis"))


def test_an_arm_without_dp_clips_nothing_and_hears_no_noise(anew):
    experiment = anew()
    found = diagnose(Arms(experiment).baseline, units_per_group=8)
    assert {value for _, value, _ in found.series("clipped_share", "rare")} == {0.0}
    assert {value for _, value, _ in found.series("clip_factor", "rare")} == {1.0}
    assert "signal_to_noise" not in found.quantities
    assert not found.covered
    assert "claims no privacy" in found.note
    # It learns from the rare group what DP does not let it learn.
    (gap,), (private_gap,) = (one.gap().values() for one in (found, diagnose(private(experiment), units_per_group=8)))
    assert abs(gap[0][1] - private_gap[0][1]) < 1e-6
    assert abs(gap[-1][1]) < abs(private_gap[-1][1])


def test_private_norms_are_marked_and_the_parts_of_the_excess_loss_are_kept(experiment):
    arm = private(experiment).limited(1)
    found = diagnose(arm, private=True)
    assert not found.covered
    assert "reads private units: not for release" in found.note
    assert found.difference("clipped_share", over="run").larger == "rare"
    assert found.runs[0]["items"] == {}
    assert not any(one["covered_by_epsilon"] for one in found.as_dict()["diagnostics"])
    parts = diagnose(arm, units_per_group=4, decompose=True, probes=2)
    assert {"excess_direction", "excess_magnitude", "excess_noise"} <= set(parts.quantities)
    for part in ("excess_direction", "excess_magnitude"):  # what clipping does harms the rare group
        assert parts.difference(part, over="run").larger == "rare"
        assert all(value > 0 for _, value, _ in parts.series(part, "rare"))
    with pytest.raises(SpecError, match="on held-out units"):
        diagnose(arm, private=True, decompose=True)


def test_what_cannot_be_repeated_or_was_not_trained_is_refused(experiment):
    arms = Arms(experiment)
    with pytest.raises(SpecError, match="draws its noise for a release"):
        diagnose(custom_arm(experiment, "dp_release", dp=DP(release=True)))
    with pytest.raises(SpecError, match="is not trained"):
        diagnose(arms.pretrained)
    with pytest.raises(CorpusError, match="no record has a column 'colour'") as error:
        diagnose(arms.dp, "colour")
    assert "columns there are: group, id, stereotype" in str(error.value)


def units(*texts, **fields):
    return [Unit(f"u{i}", (Record(f"u{i}", text, fields),)) for i, text in enumerate(texts)]


def test_words_of_one_gender_only_tell_texts_apart():
    texts = ("She took her bag.", "He left.", "He told her.", "The door was open.", "The woman spoke.", "His car.")
    found, left_out = labels(units(*texts), "words[gender]")
    assert found == {"u0": "feminine", "u1": "masculine", "u4": "feminine", "u5": "masculine"}
    assert left_out == {NO_WORD: 1, SEVERAL_WORDS: 1}


def test_a_unit_has_the_group_its_records_agree_on():
    def record(name, group):
        return Record(name, name, {} if group is None else {"group": group})

    members = [
        Unit("one", (record("a", "x"), record("b", "x"))),
        Unit("mixed", (record("c", "x"), record("d", "y"))),
        Unit("partly", (record("e", None), record("f", "y"))),
        Unit("none", (record("g", None),)),
    ]
    found, left_out = labels(members, "group")
    assert found == {"one": "x", "partly": "y"}
    assert left_out == {SEVERAL_GROUPS: 1, "no group": 1}


def test_groups_are_drawn_equally_large_and_the_same_in_any_order():
    def short(record):
        return len(record.text) < 3

    members = units(*(str(i) for i in range(150)))
    found = group_units(members, short, units_per_group=20)
    assert {name: len(drawn) for name, drawn in found.units.items()} == {"False": 20, "True": 20}
    assert found.counts == {"False": 50, "True": 100}
    assert group_units(members[::-1], short, units_per_group=20).units == found.units
    assert group_units(members, short, units_per_group=20, seed=1).digest != found.digest
    assert len(group_units(members, short, units_per_group=80).units["True"]) == 50


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (lambda record: "same", "a function gives one group, 'same' among 10 units"),
        (lambda record: None, "a function gives no group among 10 units; 10 left out: no group"),
        (lambda record: record.id == "u0", "group 'True' has 1 of 10 units by a function, and at least 4 are needed"),
    ],
)
def test_too_few_groups_or_units_are_an_error(by, message):
    with pytest.raises(CorpusError) as error:
        group_units(units(*"abcdefghij"), by, units_per_group=4)
    assert message in str(error.value)


@pytest.mark.parametrize("changes", [{"trainable": "last:1"}, {"trainable": "lora", "lora_layers": 1}])
def test_runs_with_frozen_layers_are_looked_at_and_repeated_as_well(anew, changes):
    experiment = anew(**changes)
    arm = private(experiment)
    arm.train()
    found = diagnose(arm, units_per_group=8, decompose=True, probes=1)  # ends with the same weights, or it is an error
    assert found.difference("loss").larger == "rare"
    assert found.difference("excess_magnitude", over="run").larger == "rare"
