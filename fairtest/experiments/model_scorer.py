"""Scores of one finished model, found again by content or made by a forward pass.

The key is the digest of the model's files: a model scores once, whatever path it is given under and whoever asks, the
command line or a gate.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtest.digests import digest_of
from fairtest.experiments.progress import Progress
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.scoring.generation_protocols import is_generation
from fairtest.scoring.scores import ProbeScores, join_scores
from fairtest.store import Store
from fairtest.training.sources import ModelSource

if TYPE_CHECKING:
    from fairtest.training.models import LoadedModel

# Raised when a change of the library changes what the same model scores: old entries are then not found.
SCORING_VERSION = 1
CAUSAL, MASKED = "causal", "masked"
USUAL_PROTOCOLS = {CAUSAL: "causal-bos", MASKED: "mlm-pll"}
_TEXTS = "texts"
_MASKED_HEADS = ("ForMaskedLM", "ForPreTraining")


def model_kind(source: ModelSource) -> str:
    """The kind that the configuration names, masked or causal."""
    config = Path(source.location) / "config.json"
    if not config.is_file():
        return CAUSAL
    try:
        names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or ()
    except (OSError, ValueError):
        return CAUSAL  # whoever loads the model says what is wrong with it
    return MASKED if any(str(name).endswith(_MASKED_HEADS) for name in names) else CAUSAL


class ModelScorer:
    """Scores of one model, from the store or from a forward pass; the model is loaded when it is first needed."""

    def __init__(
        self, source: ModelSource, kind: str, store: Store, progress: Progress, threads: int, *, device: str = "cpu"
    ) -> None:
        self._source, self._kind, self._store, self._progress = source, kind, store, progress
        self._threads, self._device = threads, device

    def scores(self, probes: ProbeSet, axes: Sequence[str], protocol: str) -> ProbeScores:
        """The items of these axes. An axis is scored and kept at a time: an interruption loses none that was
        finished.
        """
        return join_scores(probes, [self._axis(probes.only(axis), protocol) for axis in axes])

    def losses(
        self, texts: Sequence[str], *, max_length: int, long_texts: str
    ) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """(negative log-likelihood in nats, tokens) of each text.

        Of a masked model it is the pseudo-log-likelihood: each token predicted from all others, one forward pass each.
        `max_length` and `long_texts` are of causal models; a masked one refuses a text that it cannot read whole.
        """
        if self._kind == MASKED:
            return self._pseudo_losses(texts)
        key = {
            "version": SCORING_VERSION,
            "model": self._source.digest,
            "texts": digest_of(list(texts)),
            "max_length": max_length,
            "long_texts": long_texts,
        }

        def score() -> dict[str, Any]:
            from fairtest.scoring.likelihood import score_records

            label = f"score {self._source.name} on held-out texts"
            with self._progress.work(label, len(texts), "text", minor=True) as advance:
                nll, tokens = score_records(
                    self._loaded(),
                    texts,
                    max_length=max_length,
                    long_texts=long_texts,
                    on_batch=lambda done, total: advance(done=done, total=total),
                )
            return {"nll": list(nll), "tokens": list(tokens)}

        value = self._store.obtain_json("model-held-out", key, score)
        return tuple(value["nll"]), tuple(value["tokens"])

    def _pseudo_losses(self, texts: Sequence[str]) -> tuple[tuple[float, ...], tuple[int, ...]]:
        probes = ProbeSet(
            name="held-out texts",
            version="1",
            licence="the user's",
            source="the user's",
            probes=tuple(Probe(f"text {place}", _TEXTS, "", {"text": text}) for place, text in enumerate(texts, 1)),
        )
        found = self._axis(probes, USUAL_PROTOCOLS[MASKED])
        return tuple(-value for value in found.log_probs["text"]), found.tokens["text"]

    def _axis(self, probes: ProbeSet, protocol: str) -> ProbeScores:
        if is_generation(protocol):
            return self._written(probes, protocol)
        key = {
            "version": SCORING_VERSION,
            "model": self._source.digest,
            "probes": probes.digest,
            "protocol": protocol,
        }

        def score() -> dict[str, Any]:
            label = f"score {self._source.name} on {probes.name}[{probes.axes[0]}]"
            with self._progress.work(label, len(probes), "text") as advance:
                scored = self._scoring()(
                    probes, protocol=protocol, on_batch=lambda done, total: advance(done=done, total=total)
                )
            return scored.to_json()

        return ProbeScores.from_json(self._store.obtain_json("model-scores", key, score))

    def _written(self, prompts: ProbeSet, protocol: str) -> ProbeScores:
        from fairtest.experiments.generation_scores import Writer, written_scores

        writer = Writer(self._source.name, {"model": self._source.digest}, self._loaded)
        return written_scores(
            writer, prompts, protocol, store=self._store, progress=self._progress, kind="model-scores"
        )

    def _scoring(self) -> Callable[..., ProbeScores]:
        if self._kind == MASKED:
            from fairtest.scoring.masked import score_masked_probe_set

            return functools.partial(score_masked_probe_set, self._loaded())
        from fairtest.scoring.likelihood import score_probe_set

        return functools.partial(score_probe_set, self._loaded())

    def _loaded(self) -> LoadedModel:
        import os

        import torch

        torch.set_num_threads(self._threads or os.cpu_count() or 1)
        return _load(self._source, self._kind, self._device)


# One model in memory however many checkpoints a test holds; nobody gets it to change it.
@functools.lru_cache(maxsize=1)
def _load(source: ModelSource, kind: str, device: str) -> LoadedModel:
    from fairtest.training.models import load_model, move

    if kind == MASKED:
        from fairtest.scoring.masked_models import load_masked_model

        return move(load_masked_model(source), device)
    return move(load_model(source), device)
