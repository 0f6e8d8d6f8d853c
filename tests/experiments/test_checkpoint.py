"""Models trained elsewhere stand where an arm does, and whatever makes their numbers mean nothing is said."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys

import pytest
import torch
from checkpoint_builders import STATED, moved, with_configuration
from safetensors.torch import load_file, save_file
from scoring.masked_builders import bert

from fairtest.errors import CorpusError, ModelError, PrivacyError, ProbeError, SpecError
from fairtest.experiments.arms import Arms
from fairtest.experiments.checkpoint import Checkpoint
from fairtest.experiments.experiment import Experiment
from fairtest.experiments.model_scorer import ModelScorer
from fairtest.experiments.model_scores import score_model
from fairtest.experiments.weights import digest_of_weights
from fairtest.probes.registry import load_probe_set
from fairtest.settings import Settings
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl
from fairtest.training.models import save_pretrained


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    where = tmp_path_factory.mktemp("models")
    return [moved(where / f"seed{seed}", seed) for seed in range(2)]


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "held_out.jsonl"
    write_jsonl(corpus("private", 0.65, 20, seed=9), path, prefix="h")
    return path


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_dir=str(tmp_path / "store"), threads=1, max_length=48)


def test_scores_are_those_of_fairtest_score_and_are_shared_with_it(models, settings, monkeypatch):
    store = Store(settings.cache_dir)
    checkpoint = Checkpoint(*models).bind(settings, store)
    found = checkpoint.scores("templates", "gender")
    assert len(found) == 2
    assert found[0].log_probs != found[1].log_probs
    monkeypatch.setattr(ModelScorer, "_loaded", lambda _: pytest.fail("a forward pass"))
    for model, scores in zip(models, found, strict=True):
        command = score_model(str(model), load_probe_set("templates").only("gender"), store=store, threads=1)
        assert command.scores["causal-bos"] == scores


def test_nothing_is_read_before_a_value_is_asked_for(tmp_path):
    checkpoint = Checkpoint(tmp_path / "later", start=tmp_path / "base", held_out=tmp_path / "texts.txt")
    assert (checkpoint.name, checkpoint.tuned, checkpoint.start().tuned) == ("later", True, False)
    assert checkpoint.available_seeds is checkpoint.trained_tensors() is checkpoint.changed_share() is None
    with pytest.raises(ModelError, match="does not exist"):
        checkpoint.scores("templates")


def test_names_come_from_directories_and_plain_ones_take_the_one_above(tmp_path):
    named = {
        "dp": (tmp_path / "dp",),
        "dp/checkpoint-500": (tmp_path / "dp/checkpoint-500",),
        "runs": (tmp_path / "runs/a", tmp_path / "runs/b"),
        "a and 1 more": (tmp_path / "one/a", tmp_path / "two/b"),
        "fairtest/tiny": ("fairtest/tiny",),
        "model-x": ("somebody/model-x",),
    }
    assert {Checkpoint(*paths).name: paths for paths in named.values()} == named
    assert Checkpoint("a", name="mine").name == "mine"
    assert Checkpoint("out/gpt2", start="gpt2").start().name == "start of gpt2"


def test_identity_is_of_the_weights_whatever_lies_beside_them_and_however_they_are_cut(models, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(models[0], again)
    with_configuration(again, transformers_version="9.9")
    weights = load_file(again / "model.safetensors")
    first = dict(list(weights.items())[:3])
    save_file(first, again / "model-00001-of-00002.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if name not in first},
        again / "model-00002-of-00002.safetensors",
    )
    (again / "model.safetensors").unlink()
    assert Checkpoint(again).identity == Checkpoint(models[0]).identity != Checkpoint(models[1]).identity


def test_one_model_given_as_two_seeds_is_an_error_that_names_both(models, tmp_path):
    again = with_configuration(shutil.copytree(models[0], tmp_path / "again"), transformers_version="9.9")
    with pytest.raises(ModelError, match=r"seed0 and .*again are the same weights, and one model counts as one seed"):
        _ = Checkpoint(models[0], again).identity
    # A model and its start may be one: that is what the did-it-train guard is for.
    assert Checkpoint(models[0], start=again).start().identity == Checkpoint(models[0]).identity


def test_a_start_is_judged_on_the_same_texts(models, texts, settings):
    checkpoint = Checkpoint(*models, start="fairtest/tiny", held_out=texts).bind(settings)
    ours, before = checkpoint.held_out(), checkpoint.start().held_out()
    assert len(ours.nll) == 2
    assert len(before.nll) == 1
    assert (ours.digest, ours.tokens, ours.units) == (before.digest, before.tokens, before.units)
    assert ours.nll[0] != before.nll[0] != ours.nll[1]
    assert checkpoint.start_known
    assert checkpoint.start().start() is checkpoint.start()


def test_held_out_losses_are_those_of_an_arm_on_the_same_units(models, tmp_path, settings):
    records = tmp_path / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 200, seed=1), records, prefix="r")
    experiment = Experiment(dataclasses.replace(settings, corpus=str(records)), Store(settings.cache_dir))
    pretrained = Arms(experiment).pretrained.held_out()
    here = Checkpoint("fairtest/tiny", held_out=experiment.held_out_corpus, tuned=False).bind(settings).held_out()
    assert (here.digest, here.units, here.tokens) == (pretrained.digest, pretrained.units, pretrained.tokens)
    assert here.nll[0] == pytest.approx(pretrained.nll[0])


def test_columns_of_the_settings_group_the_texts(models, tmp_path, settings):
    path = tmp_path / "texts.csv"
    rows = zip(corpus("private", 0.65, 3, seed=9), ("ann,f", "ann,m", "bo,m"), strict=True)
    path.write_text("body,who,group\n" + "".join(f'"{row.text}",{who}\n' for row, who in rows))
    grouped = dataclasses.replace(settings, group_field="group", unit_field="who")
    held = Checkpoint(models[0], held_out=path, text_field="body").bind(grouped).held_out()
    assert (held.units, held.groups) == (("ann", "ann", "bo"), ("f", "m", "m"))


def test_without_texts_there_is_no_perplexity_and_without_a_start_nobody_knows_what_it_was(models, settings):
    checkpoint = Checkpoint(models[0]).bind(settings)
    assert checkpoint.held_out() is None
    assert not checkpoint.start_known
    with pytest.raises(ModelError, match=r"it is not known what checkpoint '.*seed0' was tuned from") as caught:
        checkpoint.start()
    assert "start=" in caught.value.fix


def test_the_same_values_come_from_the_store_and_import_no_torch(models, texts, tmp_path):
    code = (
        "import sys\nfrom fairtest.experiments.checkpoint import Checkpoint\nfrom fairtest.settings import Settings\n"
        f"one = Checkpoint({str(models[0])!r}, start='fairtest/tiny', held_out={str(texts)!r})\n"
        f"one.bind(Settings(cache_dir={str(tmp_path / 'warm')!r}, threads=1, max_length=48))\n"
        "print(one.scores('templates', 'gender')[0].ids[0], one.held_out().nll, one.start().held_out().nll)\n"
        "print('torch' in sys.modules)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]
    assert [run[1] for run in runs] == ["True", "False"]
    assert runs[0][0] == runs[1][0]


def test_fewer_seeds_are_the_first_ones_with_all_that_belongs_to_them(models, texts, settings):
    statements = [STATED, dataclasses.replace(STATED, epsilon=2.0)]
    checkpoint = Checkpoint(*models, start=Checkpoint(*models[::-1]), statement=statements, held_out=texts)
    one = checkpoint.bind(settings).limited(1)
    assert one.identity == checkpoint.identity[:1]
    assert one.start().identity == checkpoint.start().identity[:1]
    assert one.held_out().nll == checkpoint.held_out().nll[:1]
    assert (one.statement(), one.name) == (STATED, checkpoint.name)
    assert checkpoint.limited(9).identity == checkpoint.identity


def test_a_report_learns_digests_and_no_path(models, texts, settings):
    checkpoint = Checkpoint(*models, start="fairtest/tiny", held_out=texts).bind(settings)
    told = checkpoint.describe()
    assert told["weights"] == list(checkpoint.identity)
    assert (told["kind"], told["start"], told["held_out_texts"]) == ("causal", "fairtest/tiny", 20)
    assert str(models[0].parent) not in str(told)
    assert Checkpoint(models[0]).describe()["start"] is None


def test_a_masked_model_is_judged_by_the_pseudo_likelihood_of_the_held_out_texts(tmp_path, settings):
    loaded = bert()
    save_pretrained(loaded, tmp_path / "masked")
    texts = ["The nurse was very kind.", "He and she work in the park."]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    checkpoint = Checkpoint(tmp_path / "masked", held_out=tmp_path / "texts.txt").bind(settings)
    assert checkpoint.kind == "masked"
    held_out = checkpoint.held_out()
    for text, nll, tokens in zip(texts, held_out.nll[0], held_out.tokens, strict=True):
        ids = loaded.tokenizer(text)["input_ids"]
        total = 0.0
        for place in range(1, len(ids) - 1):
            row = torch.tensor([[loaded.tokenizer.mask_token_id if at == place else i for at, i in enumerate(ids)]])
            with torch.no_grad():
                total -= loaded.model.eval()(row).logits[0, place].log_softmax(-1)[ids[place]].item()
        assert (nll, tokens) == (pytest.approx(total, abs=1e-4), len(ids) - 2)
    with pytest.raises(ModelError, match=r"is a masked language model, and .* is a causal one"):
        _ = Checkpoint(tmp_path / "masked", "fairtest/tiny").kind


def test_another_protocol_gives_other_scores(models, settings):
    checkpoint = Checkpoint(models[0]).bind(settings)
    (usual,), (other,) = checkpoint.scores("templates"), checkpoint.scores("templates", protocol="causal-nobos")
    assert (usual.protocol, other.protocol) == ("causal-bos", "causal-nobos")
    assert usual.log_probs != other.log_probs


# -- privacy statements -----------------------------------------------------------------------------------------------


def test_the_statement_beside_the_weights_is_the_checkpoints(models, tmp_path):
    private = shutil.copytree(models[0], tmp_path / "private")
    assert Checkpoint(private).statement() is None
    STATED.write(private / "privacy.json")
    assert Checkpoint(private).statement() == STATED
    elsewhere = tmp_path / "claim.json"
    dataclasses.replace(STATED, epsilon=1.0).write(elsewhere)
    assert Checkpoint(private, statement=elsewhere).statement().epsilon == 1.0


def test_a_statement_of_other_weights_is_not_believed(models, tmp_path):
    private = shutil.copytree(models[0], tmp_path / "private")
    dataclasses.replace(STATED, weights=digest_of_weights(private)).write(private / "privacy.json")
    assert Checkpoint(private).statement().weights == digest_of_weights(private)
    # The file copied beside other weights, which may have been tuned further without privacy.
    shutil.copy(models[1] / "model.safetensors", private)
    with pytest.raises(PrivacyError, match=r"the privacy statement of .*private is of other weights"):
        Checkpoint(private).statement()
    with pytest.raises(PrivacyError, match="is of other weights"):
        Checkpoint(models[1], statement=dataclasses.replace(STATED, weights="0" * 64)).statement()
    # One for all seeds names the weights of one of them, or of the arm that they come from.
    shared = Checkpoint(*models, statement=dataclasses.replace(STATED, weights=digest_of_weights(models[0])))
    assert shared.statement().epsilon == STATED.epsilon
    assert shared.limited(1).statement().epsilon == STATED.epsilon


def test_of_several_statements_the_largest_epsilon_counts_and_what_several_releases_mean_is_said(models):
    worse = dataclasses.replace(STATED, epsilon=4.0, noise_multiplier=1.1)
    joint = Checkpoint(*models, statement=[STATED, worse]).statement()
    assert joint.epsilon == 4.0
    assert "of one seed (2 seeds were trained to measure; releasing several adds up)" in joint.released
    assert joint.released.endswith("seed1, which has the largest epsilon of the 2")
    same = Checkpoint(*models, statement=STATED).statement()
    assert same.released.endswith("releasing several adds up)")


def test_statements_of_different_mechanisms_are_not_joined(models):
    for change in ({"unit": "user"}, {"delta": 1e-4}, {"sampler_actual": "shuffle"}, {"repeatable": False}):
        (field,) = change
        other = dataclasses.replace(STATED, **change)
        with pytest.raises(PrivacyError, match=f"differ in {field}"):
            Checkpoint(*models, statement=[STATED, other]).statement()


def test_a_seed_without_a_statement_is_named(models, tmp_path):
    private = shutil.copytree(models[0], tmp_path / "private")
    STATED.write(private / "privacy.json")
    with pytest.raises(PrivacyError, match=r"private has a privacy statement and .*seed1 has none"):
        Checkpoint(private, models[1]).statement()


def test_a_malformed_statement_says_where(models, tmp_path):
    private = shutil.copytree(models[0], tmp_path / "private")
    (private / "privacy.json").write_text('{"epsilon": 3}')
    with pytest.raises(PrivacyError, match="lacks unit") as caught:
        Checkpoint(private).statement()
    assert caught.value.where.endswith("privacy.json")
    with pytest.raises(PrivacyError, match="cannot be read"):
        Checkpoint(models[0], statement=tmp_path / "none.json").statement()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ((), {}, "a checkpoint needs a path"),
        ((["a", "b"],), {}, r"path is \['a', 'b'\]"),
        ((3,), {}, "path is 3"),
        (("",), {}, "path is ''"),
        (("a",), {"name": " "}, "needs a name"),
        (("a",), {"start": 3}, "start is 3"),
        (("a",), {"start": "b", "tuned": False}, "is not tuned and has a start"),
        (("a", "b", "c"), {"start": Checkpoint("x", "y")}, "3 seeds cannot start from 2 models"),
        (("a", "b", "c"), {"statement": ["x", "y"]}, "3 models and 2 privacy statements"),
        (("a",), {"statement": 3.0}, "statement is 3.0"),
        (("a",), {"statement": []}, r"statement is \[\]"),
        (("a",), {"held_out": 3}, "held_out is 3"),
    ],
)
def test_what_describes_no_checkpoint_is_refused_at_once(given, options, message):
    with pytest.raises(SpecError, match=message):
        Checkpoint(*given, **options)
    with pytest.raises(SpecError, match="a checkpoint with 0 seeds"):
        Checkpoint("a").limited(0)


def test_directories_that_hold_no_model_are_refused(models, tmp_path):
    def broken(name, change):
        change(shutil.copytree(models[0], tmp_path / name))
        return Checkpoint(tmp_path / name)

    def pickled(where):
        (where / "model.safetensors").rename(where / "pytorch_model.bin")

    cases = {
        "does not exist": Checkpoint(tmp_path / "nowhere"),
        r"no weights \(\*.safetensors\)": broken("empty", lambda where: (where / "model.safetensors").unlink()),
        "as pickle only": broken("pickled", pickled),
        "has no config.json": broken("bare", lambda where: (where / "config.json").unlink()),
        "cannot be read as safetensors": broken("torn", lambda where: (where / "model.safetensors").write_bytes(b"{")),
        "cannot be fetched": Checkpoint("nobody/has-such-a-model"),
    }
    for message, checkpoint in cases.items():
        with pytest.raises(ModelError, match=message):
            checkpoint.scores("templates")


def test_weights_that_are_not_numbers_give_no_score(models, tmp_path, settings):
    diverged = shutil.copytree(models[0], tmp_path / "diverged")
    weights = load_file(diverged / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, diverged / "model.safetensors")
    with pytest.raises(Exception, match="not finite"):
        Checkpoint(diverged).bind(settings).scores("templates")


def test_texts_and_probes_that_are_not_there_are_named(models, tmp_path, settings):
    with pytest.raises(CorpusError, match="there is no corpus at"):
        Checkpoint(models[0], held_out=tmp_path / "none.txt").bind(settings).held_out()
    with pytest.raises(ProbeError):
        Checkpoint(models[0]).bind(settings).scores("templates", "colour")


def test_what_a_gate_found_is_told_though_the_arm_cannot_be_described(models, settings, tmp_path):
    from fairtest.gates.fairness import Fairness

    (tmp_path / "privacy.json").write_text("{")
    checkpoint = Checkpoint(*models, statement=[tmp_path / "privacy.json"] * 2, name="dp")
    helpers = Fairness(settings)
    helpers.measure(checkpoint, "templates.log_ratio[gender]")
    record = helpers.record()
    assert [row["arm"] for row in record["measurements"]] == ["dp"]
    assert record["arms"] == {"dp": {}}
    assert "privacy.json" in record["problem"]
