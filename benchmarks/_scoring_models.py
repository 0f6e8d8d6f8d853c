"""What the scoring benchmark scores: published pairs, tokenizers trained on public text, models with random weights."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

_BOS = "<|endoftext|>"
_PAD, _UNKNOWN, _CLS, _SEP, _MASK = _SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WIDE = 0.05  # of the random weights; with GPT-2's own 0.02 all words are about as likely, and errors look small


@dataclass(frozen=True)
class Shape:
    """Sizes of the models; `vocabulary` counts ids, of which a small tokenizer leaves the last ones unused."""

    layers: int
    width: int
    heads: int
    vocabulary: int


FULL = Shape(layers=6, width=384, heads=6, vocabulary=50257)
QUICK = Shape(layers=2, width=64, heads=2, vocabulary=4096)


def data_dir() -> Path:
    """Where published data sets are read in place."""
    return Path(os.environ.get("FAIRTEST_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data").resolve()


def crows_pairs(count: int | None = None) -> ProbeSet:
    """The first `count` pairs of CrowS-Pairs, or all."""
    probes = read_crows_pairs(data_dir())
    return dataclasses.replace(probes, probes=probes.probes[:count])


def every(probes: ProbeSet, count: int) -> ProbeSet:
    """`count` pairs at even distances: the rows are sorted by nothing, but neighbours are alike."""
    step = max(1, len(probes.probes) // count)
    return dataclasses.replace(probes, probes=probes.probes[::step][:count])


def repeated(probes: ProbeSet, times: int) -> ProbeSet:
    """Each pair `times` times, its words turned round by one more place each time: other texts, of the same length."""

    def turned(text: str, by: int) -> str:
        words = text.split()
        by %= len(words)
        return " ".join(words[by:] + words[:by])

    copies = [
        Probe(
            f"{probe.id}.{by}", probe.axis, f"{probe.cluster}.{by}", {k: turned(t, by) for k, t in probe.texts.items()}
        )
        for by in range(times)
        for probe in probes.probes
    ]
    return dataclasses.replace(probes, probes=tuple(copies))


def texts_of(probes: ProbeSet) -> list[str]:
    """Every text, role by role within a probe: the order that all methods answer in."""
    return [probe.texts[role] for probe in probes.probes for role in probes.roles]


def tokenizer_folder(shape: Shape) -> Path:
    """A directory, deleted at exit, with both tokenizers, trained on novels and WikiText-2 (some seven seconds)."""
    folder = Path(tempfile.mkdtemp(prefix="fairtest-benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    places = ("gutenberg-novels/*.txt", "wikitext-2/*.txt")
    files = sorted(str(file) for place in places for file in data_dir().glob(place))
    if not files:
        raise FileNotFoundError(f"no text to train a tokenizer on: {' or '.join(places)} in {data_dir()}")
    if shape.vocabulary <= QUICK.vocabulary:
        files = files[-1:]
    _byte_level(files, shape.vocabulary).save_pretrained(folder / "gpt2")
    _word_pieces(files, shape.vocabulary).save_pretrained(folder / "bert")
    return folder


def _byte_level(files: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train(
        list(files),
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=[_BOS], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=_BOS, eos_token=_BOS)


def _word_pieces(files: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    raw = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.train(
        list(files),
        trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(_SPECIAL), show_progress=False),
    )
    ends = [(token, raw.token_to_id(token)) for token in (_CLS, _SEP)]
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=_PAD, unk_token=_UNKNOWN, cls_token=_CLS, sep_token=_SEP, mask_token=_MASK
    )


def gpt2(folder: Path, shape: Shape) -> LoadedModel:
    """A GPT-2 with random weights, the same each time."""
    config = GPT2Config(
        n_layer=shape.layers,
        n_embd=shape.width,
        n_head=shape.heads,
        vocab_size=shape.vocabulary,
        initializer_range=_WIDE,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _loaded(functools.partial(GPT2LMHeadModel, config), folder / "gpt2")


def bert(folder: Path, shape: Shape) -> LoadedModel:
    """A BERT with random weights, the same each time."""
    config = BertConfig(
        num_hidden_layers=shape.layers,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        vocab_size=shape.vocabulary,
        initializer_range=_WIDE,
        pad_token_id=0,
    )
    return _loaded(functools.partial(BertForMaskedLM, config), folder / "bert")


def _loaded(make: functools.partial[torch.nn.Module], folder: Path) -> LoadedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return LoadedModel(model, tokenizer, ModelSource(f"random {folder.name}", "directory", str(folder), ""))
