"""Every arm takes one path: what differs between arms is clipping and noise, and nothing else."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_builders import WORDS, gpt2, llama, loaded, word_tokenizer

from fairtest.augmentation import UnitViews
from fairtest.errors import ModelError, TrainingError
from fairtest.specs import Training
from fairtest.training.encoding import EncodedUnit, MicroBatch, micro_batches
from fairtest.training.finetune import finetune
from fairtest.training.forward import CausalForward, TokenBatch, encode
from fairtest.training.models import set_trainable
from fairtest.training.sampling import poisson_batches
from fairtest.training.steps import NoiseSpec, derived_seed
from fairtest.training.trunk import split_trunk

TRAINING = Training(steps=4, batch_size=6, learning_rate=1e-2, max_length=16)
DROPOUT = {"embd_pdrop": 0.2, "attn_pdrop": 0.2, "resid_pdrop": 0.2}
STILL = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}


def corpus(units=24, seed=0):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS[3:], k=draw.randint(3, 9))) for _ in range(2 * units)]
    return [
        UnitViews(f"u{i}", (texts[2 * i], texts[2 * i + 1]) if i % 3 == 0 else (texts[2 * i],)) for i in range(units)
    ]


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(model, noise=None, *, training=TRAINING, units=None, seed=0, **options):
    log = finetune(loaded(model), units or corpus(), training, noise, seed, **options)
    return weights(model), log


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("noise", [None, NoiseSpec(1.0, 0.5)])
def test_the_same_seed_gives_the_same_weights_bit_by_bit(noise):
    torch.manual_seed(1)
    first, log = train(gpt2(**DROPOUT), noise)
    torch.manual_seed(2)
    second, again = train(gpt2(**DROPOUT), noise)
    other, _ = train(gpt2(**DROPOUT), noise, seed=1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert log.losses == again.losses
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("build", "options"), [(gpt2, STILL), (gpt2, DROPOUT), (gpt2, {"tied": False, **STILL}), (llama, {})]
)
def test_no_noise_is_clipping_with_an_endless_limit_and_sigma_zero(build, options):
    plain, plain_log = train(build(**options))
    clipped, log = train(build(**options), NoiseSpec(0.0, 1e9))
    assert_close(clipped, plain, 2e-4)  # a step of AdamW turns a rounding error near zero into a part of the rate
    assert log.losses == pytest.approx(plain_log.losses, rel=1e-4)
    assert log.clipped_share == (0.0,) * len(log.losses)
    assert plain_log.clipped_share == plain_log.median_norms == ()


def train_by_definition(model, units, training, *, limit, seed):
    """AdamW on clipped sums over the expected batch size, one unit at a time; no code of the trainer but sampling."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    end = 0.0 if training.lr_schedule == "linear" else 1.0
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end, total_iters=training.steps)
    forward = CausalForward(loaded(model))
    tokenizer = loaded(model).tokenizer
    for batch in poisson_batches(len(units), training.batch_size / len(units), training.steps, seed):
        total = [torch.zeros_like(p) for p in model.parameters()]
        for index in batch:
            views = encode(tokenizer, list(units[index].views), training.max_length)
            losses = [-forward.token_log_probs(TokenBatch.from_ids([v])).sum() / (len(v) - 1) for v in views]
            gradients = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
            norm = float(torch.stack([g.norm() for g in gradients]).norm())
            for whole, gradient in zip(total, gradients, strict=True):
                whole.add_(gradient * min(1.0, limit / norm))
        for p, whole in zip(model.parameters(), total, strict=True):
            p.grad = whole / training.batch_size
        optimizer.step()
        schedule.step()
    return weights(model)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("limit", [None, 1.5])
@pytest.mark.parametrize("build", [gpt2, llama])
def test_training_follows_its_definition(build, limit, schedule):
    options = STILL if build is gpt2 else {}
    training = Training(steps=3, batch_size=6, learning_rate=1e-3, lr_schedule=schedule, weight_decay=0.1, max_length=8)
    expected = train_by_definition(build(**options), corpus(), training, limit=limit or math.inf, seed=5)
    found, _ = train(build(**options), limit and NoiseSpec(0.0, limit), training=training, seed=5)
    assert_close(found, expected, 5e-5)


@pytest.mark.parametrize("noise", [None, NoiseSpec(0.7, 0.5)])
def test_micro_batches_change_nothing_beyond_rounding(noise):
    small = Training(steps=4, batch_size=6, learning_rate=1e-2, max_length=16, micro_batch_tokens=1)
    whole, _ = train(gpt2(**STILL), noise)
    pieces, _ = train(gpt2(**STILL), noise, training=small)
    assert_close(pieces, whole, 2e-4)


def test_noise_has_the_stated_size_on_every_parameter():
    sigma, limit, rate = 2.0, 0.5, 1e-2
    moved = {}
    one = Training(steps=1, batch_size=6, learning_rate=rate, optimizer="sgd")
    still, _ = train(gpt2(**STILL), NoiseSpec(0.0, limit), training=one)
    noisy, _ = train(gpt2(**STILL), NoiseSpec(sigma, limit), training=one)
    for name, value in still.items():
        moved[name] = (noisy[name] - value) / rate * 6 / (sigma * limit)
        spread = math.sqrt(2 / value.numel())
        assert abs(float(moved[name].square().mean()) - 1) < 5 * spread, name
    assert len({round(float(m.flatten()[0]), 6) for m in moved.values()}) == len(moved)


def test_arms_of_a_seed_see_the_same_batches():
    seen = []

    class Recorder:
        def __init__(self, model):
            self.forward = CausalForward(loaded(model))

        def token_log_probs(self, batch):
            rows.append(sorted(map(tuple, batch.input_ids.tolist())))
            return self.forward.token_log_probs(batch)

    for noise in (None, NoiseSpec(0.0, 1.0)):
        rows = []
        model = gpt2(**STILL)
        train(model, noise, forward=Recorder(model))
        seen.append(rows)
    plain, clipped = seen
    assert clipped[2:] == plain  # the first two calls check the clipping rules on a few rows


def test_an_empty_batch_is_a_step_with_noise_alone():
    units = corpus(40)
    rare = Training(steps=30, batch_size=1, learning_rate=1e-2)
    empty = [i for i, batch in enumerate(poisson_batches(40, 1 / 40, 30, seed=0)) if not batch]
    assert empty
    steps, snapshots = [], []
    model = gpt2(**STILL)

    def on_step(step, loss):
        steps.append((step, loss))
        snapshots.append(model.transformer.wpe.weight.detach().clone())

    _, log = train(model, NoiseSpec(1.0, 1.0), training=rare, units=units, on_step=on_step)
    assert [step for step, _ in steps] == list(range(30))
    assert [step for step, loss in steps if loss is None] == empty
    assert log.empty_batches == len(empty)
    assert len(log.losses) == len(log.clipped_share) == len(log.median_norms) == 30 - len(empty)
    assert log.steps == 30
    for step in empty[1:]:
        assert not torch.equal(snapshots[step], snapshots[step - 1])


def test_training_learns_and_the_log_says_so():
    training = Training(steps=60, batch_size=12, learning_rate=5e-3)
    _, log = train(gpt2(**STILL), training=training)
    assert sum(log.losses[-5:]) / 5 < 0.8 * sum(log.losses[:5]) / 5
    written = log.as_dict()
    assert written["losses"] == list(log.losses)
    assert written["units"] == 24
    assert written["sample_rate"] == 0.5


def test_only_trainable_parameters_move_and_the_model_is_left_clean():
    model = gpt2(**STILL)
    model.requires_grad_(False)
    model.transformer.h[1].requires_grad_(True)
    before = weights(model)
    after, _ = train(model, NoiseSpec(0.5, 1.0))
    for name in before:
        assert torch.equal(before[name], after[name]) != name.startswith("transformer.h.1."), name
    assert not model.training
    assert all(p.grad is None and not hasattr(p, "summed_grad") for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("noise", [None, NoiseSpec(0.5, 1.0)])
def test_a_cached_trunk_trains_the_same_weights(noise):
    found = []
    for cached in (False, True):
        model = llama()
        set_trainable(model, Training(trainable="last:1"))
        forward = CausalForward(loaded(model), trunk=split_trunk(loaded(model))) if cached else None
        found.append(train(model, noise, forward=forward)[0])
    assert_close(found[1], found[0], 2e-4)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(11)
    state = torch.get_rng_state()
    train(gpt2(seed=11, **DROPOUT), NoiseSpec(1.0, 1.0), training=Training(steps=1, batch_size=24))
    torch.manual_seed(11)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_for_data_dropout_and_noise_are_unrelated():
    seeds = {derived_seed(s, purpose, step) for s in range(3) for purpose in ("noise", "dropout") for step in (0, 1)}
    assert len(seeds) == 12
    assert not seeds & set(range(3))


@given(
    shapes=st.lists(st.lists(st.integers(2, 30), min_size=1, max_size=4), max_size=40),
    limit=st.integers(1, 300),
)
def test_micro_batches_hold_every_unit_once_under_the_limit(shapes, limit):
    units = [
        EncodedUnit(index, str(index), tuple([0] * length for length in lengths), (1.0,) * len(lengths))
        for index, lengths in enumerate(shapes)
    ]
    parts = list(micro_batches(units, limit))
    assert sorted(unit.index for part in parts for unit in part) == list(range(len(units)))
    for part in parts:
        batch = MicroBatch.of(part)
        assert batch.tokens.input_ids.numel() <= limit or len(part) == 1
        assert list(batch.rows_per_unit) == sorted(batch.rows_per_unit) == [len(unit.rows) for unit in batch.units]
        assert batch.tokens.lengths.tolist() == [len(row) for unit in batch.units for row in unit.rows]


def test_a_run_that_changes_no_weight_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(TrainingError, match="no weight changed in 4 steps"):
        train(gpt2())


def test_weights_that_are_not_finite_are_an_error():
    with pytest.raises(TrainingError, match="not finite"):
        train(gpt2(), NoiseSpec(1e38, 1e38), training=Training(steps=1, batch_size=6))


@pytest.mark.parametrize("noise", [None, NoiseSpec(1.0, 1.0)])
def test_a_loss_that_is_not_finite_stops_training(noise):
    model = gpt2()
    torch.nn.init.constant_(model.transformer.h[0].ln_1.weight, float("nan"))
    with pytest.raises(TrainingError, match=r"of unit (\d+) \(id 'u\1'\) is not finite at step 0") as caught:
        finetune(loaded(model), corpus(), TRAINING, noise, 0, forward=Whole(model))
    assert "learning_rate" in caught.value.fix
    assert not any(text in str(caught.value) for unit in corpus() for text in unit.views)
    assert not model.training


class Whole:
    """The model without the checks at the start."""

    def __init__(self, model):
        self.model = model

    def token_log_probs(self, batch):
        logits = self.model(input_ids=batch.input_ids).logits.log_softmax(-1)
        found = logits[:, :-1].gather(2, batch.input_ids[:, 1:, None])[:, :, 0] * batch.mask[:, 1:]
        return torch.nn.functional.pad(found, (1, 0))


def test_a_batch_larger_than_the_corpus_is_refused():
    with pytest.raises(TrainingError, match="a batch of 6 units cannot be sampled from 3"):
        train(gpt2(), units=corpus(3))


def test_a_unit_without_tokens_is_named_without_its_text():
    units = [*corpus(), UnitViews("row 24", ("",))]
    with pytest.raises(TrainingError, match="unit 'row 24' has a view without a token to learn from"):
        train(gpt2(), units=units)


def test_a_frozen_model_is_refused():
    with pytest.raises(TrainingError, match="no trainable parameter"):
        train(gpt2().requires_grad_(False))


def test_an_unused_trainable_parameter_is_refused_in_every_arm():
    for noise in (None, NoiseSpec(1.0, 1.0)):
        model = gpt2()
        model.unused = torch.nn.Linear(2, 2)
        with pytest.raises(TrainingError, match=r"got no gradient, the first is unused\.bias|unused\.weight"):
            train(model, noise)


@pytest.mark.parametrize(("sigma", "limit"), [(-1.0, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, math.inf), (math.nan, 1)])
def test_noise_that_is_no_mechanism_is_refused(sigma, limit):
    with pytest.raises(TrainingError, match="noise_multiplier must be at least 0"):
        NoiseSpec(sigma, limit)


def test_an_interrupted_run_leaves_the_model_usable():
    model = gpt2()

    def interrupt(step, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, NoiseSpec(1.0, 1.0), on_step=interrupt)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not model.training


def test_texts_longer_than_max_length_are_counted():
    training = Training(steps=1, batch_size=6, max_length=4)
    _, log = train(gpt2(**STILL), None, training=training)
    tokenizer = loaded(gpt2(**STILL)).tokenizer
    texts = {view for unit in corpus() for view in unit.views}
    assert log.cut_texts == sum(len(row) > 4 for row in encode(tokenizer, sorted(texts))) > 0
    assert train(gpt2(**STILL), None)[1].cut_texts == 0


def test_a_corpus_the_tokenizer_does_not_know_is_refused():
    units = [*corpus(), UnitViews("novel", ("it is a truth universally acknowledged",))]
    train(gpt2(**STILL), units=units)
    units.append(UnitViews("its end", ("that a single man in possession of a good fortune must be in want of a wife",)))
    with pytest.raises(TrainingError, match=r"\d% of the corpus' tokens are unknown to the tokenizer") as caught:
        train(gpt2(**STILL), units=units)
    assert caught.value.fix == "use a model whose tokenizer knows this text"


def test_counterfactuals_that_are_all_cut_off_are_an_error_and_some_are_counted():
    cut = UnitViews("cut", ("the doctor was good and he is a doctor", "the doctor was good and she is a doctor"))
    short = UnitViews("short", ("he is good", "she is good"))
    records = UnitViews("no counterfactual", ("he works", "he works"), records=2)
    brief = Training(steps=4, batch_size=2, learning_rate=1e-2, max_length=6)
    with pytest.raises(TrainingError, match="none of 1 counterfactuals differs") as caught:
        train(gpt2(**STILL), training=brief, units=[cut, records])
    assert caught.value.fix.startswith("raise max_length")
    assert train(gpt2(**STILL), training=brief, units=[cut, records, short])[1].identical_views == 1
    whole = Training(steps=4, batch_size=2, learning_rate=1e-2, max_length=16)
    log = train(gpt2(**STILL), training=whole, units=[cut, records, short])[1]
    assert log.identical_views == log.as_dict()["identical_views"] == 0


@pytest.mark.parametrize("noise", [None, NoiseSpec(0.5, 1.0)])
def test_a_step_that_memory_does_not_hold_names_the_largest_unit(noise):
    class Greedy(Whole):
        def token_log_probs(self, batch):
            return super().token_log_probs(batch) + torch.zeros(1 << 52)

    model = gpt2()
    heavy = UnitViews("heavy", ("he is good", "she works", "a nurse"), records=3)
    with pytest.raises(TrainingError, match="largest unit of its batch, 'heavy', has 3 texts") as caught:
        finetune(loaded(model), [*corpus(7), heavy], Training(steps=1, batch_size=8), noise, 0, forward=Greedy(model))
    assert "max_records_per_unit" in caught.value.fix


def test_another_runtime_error_stays_what_it_is():
    class Broken(Whole):
        def token_log_probs(self, batch):
            raise RuntimeError("shapes do not fit")

    model = gpt2()
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        finetune(loaded(model), corpus(), TRAINING, None, 0, forward=Broken(model))


def test_a_token_that_the_model_does_not_embed_is_an_error():
    extra = tuple(f"w{i}" for i in range(30))
    tokenizer = word_tokenizer(extra=extra)
    with pytest.raises(ModelError, match=r"gives the id 48 \(token 'w29'\), and the model embeds 40 ids only"):
        finetune(loaded(gpt2(), tokenizer), [*corpus(), UnitViews("new", ("he is w29",))], TRAINING, None, 0)
