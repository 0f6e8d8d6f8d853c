from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.digests import digest_of, digest_of_lists
from fairtest.errors import SpecError
from fairtest.specs import CDA, DP, Arm, Training


def test_the_name_and_speed_settings_are_no_part_of_what_is_trained():
    one = Arm(name="a", training=Training(micro_batch_tokens=64, gradient_checkpointing=True), dp=DP(epsilon=3.0))
    other = Arm(name="b", training=Training(micro_batch_tokens=4096), dp=DP(epsilon=3.0))
    assert digest_of(one.as_dict()) == digest_of(other.as_dict())


@given(st.floats(min_value=0.01, max_value=100), st.floats(min_value=0.01, max_value=100))
def test_another_epsilon_is_another_arm(first, second):
    arms = [Arm(name="dp", dp=DP(epsilon=value)) for value in (first, second)]
    assert (digest_of(arms[0].as_dict()) == digest_of(arms[1].as_dict())) == (first == second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DP(epsilon=0), "epsilon must be a number above 0"),
        (lambda: DP(epsilon=None), "neither"),
        (lambda: DP(epsilon=3.0, noise_multiplier=1.0), "both"),
        (lambda: DP(delta=1.0), "delta must be"),
        (lambda: DP(max_grad_norm=0.0), "max_grad_norm must be"),
        (lambda: CDA(axes=()), "no axis"),
        (lambda: CDA(axes=("height",)), "unknown axis 'height'"),
        (lambda: CDA(axes=("gender", "gender")), "names an axis more than once: gender, gender"),
        (lambda: Training(steps=0), "steps must be"),
        (lambda: Training(batch_size=1.5), "batch_size must be"),
        (lambda: Training(trainable="top"), "trainable must be"),
        (lambda: Training(trainable="last:0"), "trainable must be"),
        (lambda: DP(max_grad_norm="mean"), "max_grad_norm must be a number above 0 or \"median\", got 'mean'"),
        (lambda: DP(unit="person"), "unit must be one of record, document, user, got 'person'"),
        (lambda: DP(release=1), "release must be True or False, got 1"),
        (lambda: DP(clipping="ghost"), "clipping must be one of fairtest, opacus, got 'ghost'"),
        (lambda: Training(optimizer="rmsprop"), "optimizer must be one of adamw, adam, sgd, got 'rmsprop'"),
        (lambda: Training(lr_schedule="step"), "lr_schedule must be one of"),
        (lambda: Training(precision="float16"), "precision must be one of float32, bfloat16"),
        (lambda: Training(long_texts="drop"), "long_texts must be one of cut, blocks"),
        (lambda: Training(long_texts="blocks", max_length=1), "a block of max_length 1 has no room"),
        (lambda: Training(momentum=1.0, optimizer="sgd"), "momentum must be a number from 0 to below 1"),
        (lambda: Training(momentum=0.9), "momentum 0.9 has no effect with optimizer 'adamw'"),
        (lambda: Training(momentum=0.9, optimizer="adam"), "momentum 0.9 has no effect with optimizer 'adam'"),
        (lambda: Training(warmup_steps=-1), "warmup_steps must be a whole number of at least 0"),
        (lambda: Training(warmup_steps=True), "warmup_steps must be a whole number of at least 0"),
        (lambda: Training(warmup_steps=9, steps=9), "after 9 warmup_steps none of 9 steps is left"),
        (lambda: Training(gradient_checkpointing=1), "gradient_checkpointing must be True or False, got 1"),
        (lambda: Arm(name="x", training=None, dp=DP()), "not tuned"),
        (lambda: Arm(name=" "), "needs a name"),
    ],
)
def test_an_arm_that_cannot_be_trained_is_refused_when_it_is_described(make, message):
    with pytest.raises(SpecError, match=message) as caught:
        make()
    assert caught.value.where
    assert caught.value.fix


def test_steps_follow_from_epochs():
    assert Training(epochs=3, batch_size=64).steps_for(1000) == 47
    assert Training(epochs=0.1, batch_size=64).steps_for(10) == 1
    assert Training(steps=5).steps_for(10) == 5


def test_whole_numbers_and_floats_describe_one_arm():
    whole, real = (Arm(name="dp", dp=DP(epsilon=e, max_grad_norm=c)) for e, c in ((3, 1), (3.0, 1.0)))
    assert digest_of(whole.as_dict()) == digest_of(real.as_dict())
    assert DP(epsilon=None, noise_multiplier=1.0).epsilon is None
    trained = [
        Arm(name="x", training=Training(epochs=kind(2), learning_rate=kind(1), weight_decay=kind(0), momentum=kind(0)))
        for kind in (int, float)
    ]
    assert trained[0] == trained[1]
    assert digest_of(trained[0].as_dict()) == digest_of(trained[1].as_dict())


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam"}, {"lr_schedule": "cosine"}, {"warmup_steps": 2}, {"long_texts": "blocks"},
        {"precision": "bfloat16"}, {"optimizer": "sgd", "momentum": 0.5},
    ],
)  # fmt: skip
def test_whatever_changes_the_weights_is_another_arm(changes):
    assert digest_of(Arm(name="x", training=Training(**changes)).as_dict()) != digest_of(Arm(name="x").as_dict())


@pytest.mark.parametrize(
    "changes", [{"max_grad_norm": "median"}, {"release": True}, {"unit": "user"}, {"clipping": "opacus"}]
)
def test_whatever_changes_the_protection_is_another_arm(changes):
    assert digest_of(Arm(name="x", dp=DP(**changes)).as_dict()) != digest_of(Arm(name="x", dp=DP()).as_dict())


@pytest.mark.parametrize(
    "changes", [{"axes": ("race",)}, {"mode": "substitute"}, {"counterfactuals": "one"}, {"seed": 1}, {"names": True}]
)
def test_whatever_changes_the_counterfactuals_is_another_arm(changes):
    assert digest_of(Arm(name="x", cda=CDA(**changes)).as_dict()) != digest_of(Arm(name="x", cda=CDA()).as_dict())


@given(
    st.lists(st.text(max_size=3), max_size=2),
    st.lists(st.lists(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)))),
)
def test_a_digest_item_by_item_is_that_of_the_whole(head, lists):
    assert digest_of_lists(head, *map(iter, lists)) == digest_of([*head, *lists])
