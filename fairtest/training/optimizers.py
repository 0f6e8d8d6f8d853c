"""Optimizers and learning rates of a run. Noise goes through Opacus' optimizer; the optimizers are torch's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from torch import nn

from fairtest.errors import TrainingError
from fairtest.specs import Training
from fairtest.training.noise import GaussianNoise


def plain_optimizer(parameters: Iterable[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) or SGD with momentum, as `training` says."""
    options: dict[str, Any] = {
        "lr": training.learning_rate,
        "weight_decay": training.weight_decay,
        "foreach": False,
        "fused": True,
    }
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=training.momentum, **options)
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, **options)


def learning_rate_at(training: Training, step: int, steps: int) -> float:
    """Learning rate of step 0 <= `step` < `steps`.

    It rises linearly over `warmup_steps`, and then stays, or falls linearly or as half a cosine so that it would be 0
    at `steps`. A warm-up as long as the run or longer only rises.
    """
    warmup = training.warmup_steps
    if step < warmup:
        return training.learning_rate * (step + 1) / (warmup + 1)
    if training.lr_schedule == "constant":
        return training.learning_rate
    done = (step - warmup) / (steps - warmup)
    left = 1 - done if training.lr_schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return training.learning_rate * left


class NoisyOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus' optimizer for gradients that are already clipped and summed, with noise from `GaussianNoise`.

    `step` takes each parameter's `grad` as the clipped sum, makes it (sum + N(0, (sigma C)^2)) / expected_batch_size in
    one pass through memory, and hands it to the optimizer it wraps.

    Args:
        noise_multiplier: sigma. max_grad_norm: C. expected_batch_size: q N, never the size of the batch drawn.
        noise: where the noise comes from; it is asked for one step after the other, from 0.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        noise: GaussianNoise,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
        )
        self.noise = noise
        self.noised_steps = 0

    def signal_skip_step(self, do_skip: bool = True) -> None:
        """Refused: Opacus keeps a sum of its own over skipped steps, and here there is one, in `grad`.

        Raises:
            TrainingError: a step is to be skipped.
        """
        if do_skip:
            raise TrainingError(
                "a step of NoisyOptimizer cannot be skipped",
                where="NoisyOptimizer.signal_skip_step",
                fix="add micro-batches up in the parameters' grad, and call step once for the whole batch",
            )

    def accumulate(self) -> None:
        """Takes the gradients for the sum as they are: micro-batches were added up in them."""
        for parameter in self.params:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.summed_grad = parameter.grad

    def add_noise(self) -> None:
        """Adds the step's one draw of noise, and divides by the expected batch size while the values are at hand."""
        std = self.noise_multiplier * self.max_grad_norm
        self.noise.add([p.grad for p in self.params], std, self.noised_steps, divide_by=self.expected_batch_size)
        self.noised_steps += 1

    def scale_grad(self) -> None:
        """Nothing: `add_noise` has divided."""
