"""What the benchmark of frozen layers trains and scores: models of which the upper layers are trained, rows, texts."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from _cases import gpt2
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from fairtest.specs import Training
from fairtest.training.encoding import EncodedUnit
from fairtest.training.models import LoadedModel, load_model, set_trainable
from fairtest.training.sources import SMOLLM2, ModelSource, resolve_model

LEARNING_RATE = 1e-5
_WORDS = (  # noqa: SIM905 - a list of one word a line is no easier to read
    "a the this that my her his one new old good small long late first last work house day year week hand friend "
    "letter city road school shop door table water paper book car train office garden and or but with from about "
    "after before near is was has had goes came took gave made said saw knows likes wants very often never always"
).split()


@dataclass(frozen=True)
class Case:
    """A model, the rows of its training corpus, a logical batch of them, and how many probes of three texts."""

    name: str
    build: Callable[[], LoadedModel] = field(repr=False)
    training: Training
    records: int
    tokens: int
    probes: int

    def units(self, loaded: LoadedModel) -> list[EncodedUnit]:
        """A corpus of random ids, one record of `tokens` tokens a unit."""
        generator = torch.Generator().manual_seed(1)
        vocabulary = int(loaded.model.config.vocab_size)
        rows = torch.randint(vocabulary, (self.records, self.tokens), generator=generator).tolist()
        return [EncodedUnit(i, str(i), (row,), (1 / (self.tokens - 1),)) for i, row in enumerate(rows)]

    def texts(self) -> list[str]:
        """Three sentences a probe that differ in one word, somewhere."""
        rng = random.Random(0)
        found: list[str] = []
        for _ in range(self.probes):
            words = rng.choices(_WORDS, k=rng.randint(8, 14))
            place = rng.randrange(len(words))
            found += [" ".join([*words[:place], word, *words[place + 1 :]]) for word in rng.sample(_WORDS, 3)]
        return found


def cases(*, quick: bool, smollm2: bool) -> list[Case]:
    """The last two layers trained, whole and by adapters."""
    if smollm2:
        training = _training(32, trainable="lora", lora_rank=8, lora_layers=4)
        case = Case("smollm2-135m, LoRA on 4 of 30", functools.partial(_smollm2, training), training, 256, 34, 400)
        return [case]
    shape = {"layers": 4, "width": 64, "heads": 4} if quick else {"layers": 8, "width": 256, "heads": 4}
    vocabulary, records, tokens, probes = (512, 256, 24, 200) if quick else (8192, 512, 34, 600)
    found = []
    for label, options in (
        ("last:2", {"trainable": "last:2"}),
        ("LoRA on 2", {"trainable": "lora", "lora_rank": 8, "lora_layers": 2}),
    ):
        training = _training(8 if quick else 32, **options)
        build = functools.partial(_gpt2, training, vocabulary=vocabulary, tokens=tokens, tied=True, **shape)
        name = f"GPT-2 {shape['layers']} x {shape['width']}, {label}"
        found.append(Case(name, build, training, records, tokens, probes))
    return found


def _training(batch_size: int, **options: str | int) -> Training:
    return Training(steps=1, batch_size=batch_size, learning_rate=LEARNING_RATE, **options)


def _gpt2(training: Training, **shape: int | bool) -> LoadedModel:
    model = gpt2(**shape).model.eval()
    vocabulary = {word: index for index, word in enumerate(("<s>", "<unk>", *_WORDS))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - a token of a tokenizer
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>", unk_token="<unk>")  # noqa: S106
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        set_trainable(model, training)
    return _moved(LoadedModel(model, tokenizer, ModelSource("random GPT-2", "directory", "", "0" * 64)))


def _smollm2(training: Training) -> LoadedModel:
    return _moved(load_model(resolve_model(SMOLLM2), training, seed=0))


def _moved(loaded: LoadedModel) -> LoadedModel:
    """With adapters that do something: at the start one half of them is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
    return loaded
