"""Fine-tuning over a trunk is the same fine-tuning."""

import pytest
import torch
from model_builders import llama, loaded

from fairtest.augmentation import UnitViews
from fairtest.specs import Training
from fairtest.training.finetune import NoiseSpec, finetune
from fairtest.training.models import set_trainable, trained_state
from fairtest.training.trunk import split_trunk

UNITS = [
    UnitViews(f"u{i}", (text,)) for i, text in enumerate(["he is good", "she was a doctor", "the nurse works"] * 4)
]


@pytest.mark.parametrize("noise", [None, NoiseSpec(noise_multiplier=0.5, max_grad_norm=0.1)])
def test_fine_tuning_over_a_trunk_ends_at_the_same_weights(noise):
    training = Training(
        steps=4, batch_size=6, trainable="lora", lora_rank=2, lora_layers=1, max_length=8, learning_rate=1e-2
    )
    ended = []
    for with_trunk in (False, True):
        one = loaded(llama())
        torch.manual_seed(3)
        set_trainable(one.model, training)
        if with_trunk:
            one.trunk = split_trunk(one)
            assert one.trunk is not None
        finetune(one, UNITS, training, noise, seed=7)
        ended.append(trained_state(one.model))
    for name, expected in ended[0].items():
        torch.testing.assert_close(ended[1][name], expected, atol=1e-5, rtol=1e-4)
