"""The ways to score a text with a causal model that are compared; of other libraries, what they say to call."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from _scoring_models import texts_of

from fairtest.probes.probe import ProbeSet
from fairtest.scoring.likelihood import score_probe_set
from fairtest.training.models import LoadedModel

# What is timed: from texts to the log-probability of each, tokenizing included, loading not.
Score = Callable[[], list[float]]
Method = Callable[[LoadedModel, ProbeSet], Score]
T = TypeVar("T")

FAIRTEST = "fairtest"
LOOP = "one at a time"
BATCH = 16


def fairtest(loaded: LoadedModel, probes: ProbeSet) -> Score:
    """This library."""

    def score() -> list[float]:
        scores = score_probe_set(loaded, probes)
        return [
            value for item in zip(*(scores.log_probs[role] for role in probes.roles), strict=True) for value in item
        ]

    return score


def loop(loaded: LoadedModel, probes: ProbeSet) -> Score:
    """One text, one forward pass, all logits: what everybody writes first, and the reference for what is right."""
    model, tokenizer, texts = loaded.model, loaded.tokenizer, texts_of(probes)

    @torch.inference_mode()
    def score() -> list[float]:
        found = []
        for text in texts:
            ids = torch.tensor([tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)])
            each = model(ids[None]).logits[0, :-1].log_softmax(-1)
            found.append(float(each.gather(-1, ids[1:, None]).sum()))
        return found

    return score


def lm_eval(loaded: LoadedModel, probes: ProbeSet, *, batch: int | str = BATCH, rolling: bool = False) -> Score:
    """The harness' own request for an empty context, as its CrowS-Pairs task makes it, or its rolling one."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with silence():
        harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch, backend="causal")
    texts = texts_of(probes)

    def score() -> list[float]:
        with silence():
            if rolling:
                requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
                return harness.loglikelihood_rolling(requests, disable_tqdm=True)
            requests = [Instance("loglikelihood", {}, ("", text), i) for i, text in enumerate(texts)]
            return [found for found, _ in harness.loglikelihood(requests, disable_tqdm=True)]

    return score


def minicons(loaded: LoadedModel, probes: ProbeSet) -> Score:
    """IncrementalLMScorer, batch by batch in the order of the texts."""
    from minicons.scorer import IncrementalLMScorer

    with silence():
        scorer = IncrementalLMScorer(loaded.model, "cpu", tokenizer=loaded.tokenizer)
    texts = texts_of(probes)

    def score() -> list[float]:
        return [
            value
            for batch in batches(texts, BATCH)
            for value in scorer.sequence_score(batch, reduction=lambda each: each.sum(0).item(), bos_token=True)
        ]

    return score


def batches(items: Sequence[T], size: int) -> list[list[T]]:
    """Runs of `size` items, the last one shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Holds back bars, prints and warnings of the libraries; no figure depends on it."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        yield


METHODS: dict[str, tuple[str, Method]] = {  # the module that must be there, and the method
    FAIRTEST: ("fairtest", fairtest),
    LOOP: ("fairtest", loop),
    f"lm-eval, batch {BATCH}": ("lm_eval", lm_eval),
    "lm-eval, batch auto": ("lm_eval", functools.partial(lm_eval, batch="auto")),
    f"lm-eval rolling, batch {BATCH}": ("lm_eval", functools.partial(lm_eval, rolling=True)),
    f"minicons, batch {BATCH}": ("minicons", minicons),
}


def missing(module: str) -> str:
    """Why a method is not there; "" where it is."""
    if importlib.util.find_spec(module) is None:
        return "not installed"
    try:
        with silence():
            for name in {"lm_eval": ("lm_eval.models.huggingface",), "minicons": ("minicons.scorer",)}.get(module, ()):
                importlib.import_module(name)
    except ImportError as error:
        return f"does not import: {str(error).strip().splitlines()[0]}"
    return ""
