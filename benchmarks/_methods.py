"""Training steps that the clipping benchmark compares: one without privacy, the others DP-AdamW, C = 1, sigma = 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from fairtest.training.clipping import PerUnitClipping
from fairtest.training.clipping.per_sample import PerSampleClipping
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.models import LoadedModel
from fairtest.training.noise import GaussianNoise
from fairtest.training.optimizers import NoisyOptimizer

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
    """One backward pass of this project's engine and its noise; `PerSampleClipping` for clipping="opacus"."""

    def __init__(self, loaded: LoadedModel, ids: Tensor, engine: Any = PerUnitClipping) -> None:
        self.batch = TokenBatch(ids, torch.full((len(ids),), ids.shape[1]))
        self.parameters = trained(loaded.model)
        self.forward = CausalForward(loaded)
        self.clipping = engine(loaded.model, MAX_GRAD_NORM)
        self.optimizer = NoisyOptimizer(
            _adamw(loaded.model),
            noise_multiplier=NOISE_MULTIPLIER,
            max_grad_norm=MAX_GRAD_NORM,
            expected_batch_size=len(ids),
            noise=GaussianNoise(0),
        )

    def step(self) -> None:
        self._backward()
        self.optimizer.step()

    def _backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.clipping as clipping:
            log_probs = self.forward.token_log_probs(self.batch)
            clipping.backward(-log_probs.sum(1) / (self.batch.lengths - 1))

    def clipped_sum(self) -> list[Tensor]:
        self._backward()
        return [p.grad for p in self.parameters]


class FairtestFallback(Fairtest):
    """DP(clipping="opacus"): the way for layers without a rule."""

    def __init__(self, loaded: LoadedModel, ids: Tensor) -> None:
        super().__init__(loaded, ids, PerSampleClipping)


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
    """Autograd one unit at a time, clipped, added up."""
    parameters = trained(loaded.model)
    total = [torch.zeros_like(p) for p in parameters]
    for gradients in _unit_gradients(loaded.model, parameters, ids):
        norm = torch.stack([g.norm() for g in gradients]).norm()
        factor = float((MAX_GRAD_NORM / norm).clamp(max=1.0))
        for whole, gradient in zip(total, gradients, strict=True):
            whole.add_(gradient, alpha=factor)
    return total


def _unit_gradients(model: nn.Module, parameters: list[nn.Parameter], ids: Tensor) -> Iterator[tuple[Tensor, ...]]:
    for row in ids:
        yield torch.autograd.grad(row_losses(model, row[None]).sum(), parameters)


def relative_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """|found - expected| / |expected| over all parameters together."""
    difference = torch.stack([(x - y).norm() for x, y in zip(found, expected, strict=True)]).norm()
    return float(difference / torch.stack([y.norm() for y in expected]).norm())
