"""What the clipping benchmark trains: a model, a batch of token ids, and the loss of each row."""

from __future__ import annotations

import atexit
import copy
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from fairtest.errors import ModelError
from fairtest.specs import Training
from fairtest.training.models import LoadedModel, load_model, quiet_transformers
from fairtest.training.sources import SMOLLM2, ModelSource, resolve_model


@dataclass(frozen=True)
class Case:
    """A model and the shape of its batches: `batch` rows, each a privacy unit, of `tokens` tokens."""

    name: str
    batch: int
    tokens: int
    build: Callable[[], LoadedModel] = field(repr=False)
    note: str = ""

    def ids(self, loaded: LoadedModel) -> Tensor:
        """Random ids [batch, tokens], the same for all methods."""
        vocabulary = int(loaded.model.config.vocab_size)
        return torch.randint(vocabulary, (self.batch, self.tokens), generator=torch.Generator().manual_seed(1))


def gpt2(*, layers: int, width: int, heads: int, vocabulary: int, tokens: int, tied: bool) -> LoadedModel:
    """A GPT-2 with random weights and without dropout, so that all methods compute the same function."""
    config = GPT2Config(
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        vocab_size=vocabulary,
        n_positions=tokens,
        tie_word_embeddings=tied,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    return LoadedModel(model, None, ModelSource("random GPT-2", "directory", "", ""))


def gpt2_case(name: str, batch: int, tokens: int, **shape: int | bool) -> Case:
    """A case with a random GPT-2."""
    return Case(name, batch, tokens, functools.partial(gpt2, tokens=tokens, **shape))


def _lora(model: str) -> LoadedModel:
    loaded = load_model(resolve_model(model), Training(trainable="lora", lora_rank=8), seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:  # zero at the start, where half of the adapters' gradients vanish
                nn.init.normal_(parameter, std=0.02)
    return loaded


def unpacked(case: Case) -> Case:
    """The same case from plain weights: to read SmolLM2's packed ones takes each process a quarter of a minute."""
    if not case.name.startswith("smollm2"):
        return case
    directory = tempfile.mkdtemp(prefix="fairtest-benchmark-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    loaded = load_model(resolve_model(SMOLLM2))
    with quiet_transformers():
        loaded.model.save_pretrained(directory)
    loaded.tokenizer.save_pretrained(directory)
    return dataclasses.replace(case, build=functools.partial(_lora, directory))


def missing_package(case: Case) -> str:
    """Why a case cannot run here; "" if it can."""
    if not case.name.startswith("smollm2"):
        return ""
    try:
        import peft  # noqa: F401 - only whether it is there

        resolve_model(SMOLLM2)
    except (ModelError, ImportError) as error:
        return str(error).splitlines()[0]
    return ""


def _cases() -> dict[str, Case]:
    small = {"layers": 6, "width": 384, "heads": 6, "vocabulary": 8192}
    distil = {"layers": 6, "width": 768, "heads": 12, "vocabulary": 50257}
    quick = {"layers": 2, "width": 128, "heads": 4, "vocabulary": 2048}
    found = [
        gpt2_case("quick, tied", 8, 64, tied=True, **quick),
        gpt2_case("quick, untied", 8, 64, tied=False, **quick),
        gpt2_case("small, tied", 16, 128, tied=True, **small),
        gpt2_case("small, untied", 16, 128, tied=False, **small),
        gpt2_case("distilgpt2, tied", 8, 64, tied=True, **distil),
        gpt2_case("distilgpt2, untied", 8, 64, tied=False, **distil),
        Case(
            "smollm2-lora", 8, 64, functools.partial(_lora, SMOLLM2), "SmolLM2-135M, adapters of rank 8 on all layers"
        ),
    ]
    return {case.name: case for case in found}


CASES = _cases()
QUICK = ("quick, tied", "quick, untied")


def scale_cases(*, quick: bool = False) -> list[Case]:
    """One dimension after the other grows from the same middle: 4 layers, d 256, V 8192, 8 rows of 64 tokens."""
    layers, vocabulary = (1, 512) if quick else (4, 8192)

    def case(name: str, batch: int = 8, tokens: int = 64, width: int = 256) -> Case:
        shape = {"layers": layers, "width": width, "heads": 4, "vocabulary": vocabulary}
        return gpt2_case(name, batch, tokens, tied=True, **shape)

    if quick:
        return [case("batch 4", batch=4), case("tokens 32", tokens=32), case("width 128", width=128)]
    return [
        *(case(f"batch {n}", batch=n) for n in (4, 16, 64)),
        *(case(f"tokens {n}", tokens=n) for n in (32, 128, 512)),
        *(case(f"width {n}", width=n) for n in (128, 512, 1024)),
    ]


def copy_of(loaded: LoadedModel) -> LoadedModel:
    """An independent copy in training mode, as Opacus wants it; without dropout it computes the same."""
    return LoadedModel(copy.deepcopy(loaded.model).train(), loaded.tokenizer, loaded.source)
