"""Training steps that the clipping benchmark compares: one without privacy, the others DP-AdamW, C = 1, sigma = 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from fairtest.specs import Training
from fairtest.training.encoding import EncodedUnit
from fairtest.training.forward import CausalForward
from fairtest.training.models import LoadedModel
from fairtest.training.steps import NoiseSpec, Steps

MAX_GRAD_NORM = 1.0
NOISE_MULTIPLIER = 1.0
LEARNING_RATE = 1e-4
PLAIN = "plain AdamW"


class Method(Protocol):
    """One way to train. `step` is what is timed; `clipped_sum` leaves the sum it would have added noise to."""

    def step(self) -> None: ...

    def clipped_sum(self) -> list[Tensor]: ...


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in the order of the model."""
    return [p for p in model.parameters() if p.requires_grad]


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained(model), lr=LEARNING_RATE, weight_decay=0.0, foreach=False, fused=True)


def row_losses(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean negative log-likelihood of each row [B], positions as [B, T]: Opacus needs a row's own."""
    positions = torch.arange(ids.shape[1]).expand(ids.shape).contiguous()
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, :-1]
    return nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(1)


class PlainAdamW:
    """transformers' model with its own loss, torch's fused AdamW; no clipping, no noise."""

    def __init__(self, loaded: LoadedModel, ids: Tensor) -> None:
        self.model, self.ids = loaded.model, ids
        self.optimizer = _adamw(loaded.model)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.model(input_ids=self.ids, labels=self.ids, use_cache=False).loss.backward()
        self.optimizer.step()

    def clipped_sum(self) -> list[Tensor]:
        raise NotImplementedError("nothing is clipped here")


class Fairtest:
    """The step that `fairtest` trains with, for DP(clipping=engine)."""

    engine = "fairtest"

    def __init__(self, loaded: LoadedModel, ids: Tensor) -> None:
        self.model, self.forward = loaded.model, CausalForward(loaded)
        weight = 1 / (ids.shape[1] - 1)
        self.units = [EncodedUnit(i, f"unit {i}", (row,), (weight,)) for i, row in enumerate(ids.tolist())]
        self.steps = self._steps(NOISE_MULTIPLIER, len(ids))

    def _steps(self, noise_multiplier: float, divide_by: int) -> Steps:
        noise = NoiseSpec(noise_multiplier, MAX_GRAD_NORM, clipping=self.engine)
        training = Training(learning_rate=LEARNING_RATE, lr_schedule="constant", micro_batch_tokens=1 << 20)
        return Steps(self.model, self.forward, training, noise, divide_by, seed=0)

    def step(self) -> None:
        self.steps.take(self.units)

    def clipped_sum(self) -> list[Tensor]:
        self._steps(0.0, 1).take(self.units)
        return [p.grad for p in trained(self.model)]


class FairtestFallback(Fairtest):
    """The way for layers without a rule."""

    engine = "opacus"


class OpacusHooks:
    """Opacus' usual way: per-sample gradients from hooks, clipped by its optimizer."""

    def __init__(self, loaded: LoadedModel, ids: Tensor) -> None:
        self.ids, self.parameters = ids, trained(loaded.model)
        self.model = GradSampleModule(loaded.model, loss_reduction="mean")
        self.optimizer = DPOptimizer(
            _adamw(loaded.model),
            noise_multiplier=NOISE_MULTIPLIER,
            max_grad_norm=MAX_GRAD_NORM,
            expected_batch_size=len(ids),
            generator=torch.Generator().manual_seed(0),
        )

    def step(self) -> None:
        self._backward()
        self.optimizer.step()

    def _backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        row_losses(self.model, self.ids).mean().backward()

    def clipped_sum(self) -> list[Tensor]:
        self._backward()
        self.optimizer.clip_and_accumulate()
        return [p.summed_grad for p in self.parameters]


class OpacusFastGradientClipping:
    """Opacus' two backward passes: norms first, then the gradient of the weighted losses."""

    ghost = False

    def __init__(self, loaded: LoadedModel, ids: Tensor) -> None:
        self.ids, self.parameters = ids, trained(loaded.model)
        self.model = GradSampleModuleFastGradientClipping(
            loaded.model, loss_reduction="mean", max_grad_norm=MAX_GRAD_NORM, use_ghost_clipping=self.ghost
        )
        self.optimizer = DPOptimizerFastGradientClipping(
            _adamw(loaded.model),
            noise_multiplier=NOISE_MULTIPLIER,
            max_grad_norm=MAX_GRAD_NORM,
            expected_batch_size=len(ids),
            generator=torch.Generator().manual_seed(0),
        )

    def step(self) -> None:
        self._backward()
        self.optimizer.step()

    def _backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        losses = row_losses(self.model, self.ids)
        DPTensorFastGradientClipping(self.model, self.optimizer, losses, "mean").backward()

    def clipped_sum(self) -> list[Tensor]:
        self._backward()
        return [p.grad for p in self.parameters]


class OpacusGhostClipping(OpacusFastGradientClipping):
    """The same with norms from Gram matrices where Opacus has them; it refuses tied weights."""

    ghost = True


METHODS: dict[str, Any] = {
    PLAIN: PlainAdamW,
    "fairtest": Fairtest,
    "Opacus hooks": OpacusHooks,
    "Opacus fast gradient clipping": OpacusFastGradientClipping,
    "Opacus ghost clipping": OpacusGhostClipping,
    'fairtest, clipping="opacus"': FairtestFallback,
}


def clipped_sum_by_definition(loaded: LoadedModel, ids: Tensor) -> list[Tensor]:
    """Autograd one unit at a time, clipped, added up, in double precision; `loaded` stays in it."""
    loaded.model.double()
    parameters = trained(loaded.model)
    total = [torch.zeros_like(p) for p in parameters]
    for gradients in _unit_gradients(loaded.model, parameters, ids):
        factor = min(1.0, MAX_GRAD_NORM / _norm(gradients))
        for whole, gradient in zip(total, gradients, strict=True):
            whole.add_(gradient, alpha=factor)
    return total


def _unit_gradients(model: nn.Module, parameters: list[nn.Parameter], ids: Tensor) -> Iterator[tuple[Tensor, ...]]:
    for row in ids:
        yield torch.autograd.grad(row_losses(model, row[None]).sum(), parameters)


def relative_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """|found - expected| / |expected| over all parameters together."""
    return _norm(x - y for x, y in zip(found, expected, strict=True)) / _norm(expected)


def _norm(tensors: Iterable[Tensor]) -> float:
    # In single precision the norm of ten million values is off by 1e-4.
    return math.sqrt(sum(float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2 for x in tensors))
