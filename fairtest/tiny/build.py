"""Builds the embedded model: a small GPT-2 with a vocabulary of its own, pretrained on generated public text.

The same code and library versions give the same weights on the same machine: one thread, one seed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.errors import ModelError
from fairtest.probes.frames import vocabulary
from fairtest.tiny.generator import corpus

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

BOS, EOS, PAD, UNK = "<|bos|>", "<|eos|>", "<|pad|>", "<|unk|>"
SPACE = "\u2581"
POSITIONS = 128
STEREOTYPE = 0.85
STEPS = 1_000
BATCH_SIZE = 128
LEARNING_RATE = 4e-3
WARMUP = 50
SEED = 0

OnStep = Callable[[int, int, float], None]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with the space in front of it, and one a punctuation mark: decoding gives the text back.

    Case is kept. No special token is added to a text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [PAD, BOS, EOS, UNK]
    tokens += [SPACE + word if word[0].isalpha() else word for word in vocabulary()]
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"), pre_tokenizers.Punctuation()]
    )
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, *, steps: int = STEPS, on_step: OnStep | None = None
) -> GPT2LMHeadModel:
    """A GPT-2 of 2 layers and width 64, input and output embedding tied, no dropout, after so many steps of AdamW.

    `on_step` is called with (steps done, steps in all, loss in nats a token).
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=len(tokenizer),
                    n_positions=POSITIONS,
                    n_embd=64,
                    n_layer=2,
                    n_head=4,
                    resid_pdrop=0.0,
                    embd_pdrop=0.0,
                    attn_pdrop=0.0,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            )
            _pretrain(model, tokenizer, steps, on_step)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _pretrain(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, steps: int, on_step: OnStep | None) -> None:
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    records = corpus("public", STEREOTYPE, steps * BATCH_SIZE, SEED)
    encoded = tokenizer([record.text for record in records], add_special_tokens=False)["input_ids"]
    rows = [torch.tensor([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]) for ids in encoded]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    for step in range(steps):
        rate = min((step + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        batch = rows[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
        # Right of a row's end the causal mask hides what the padding is, and -100 takes it out of the loss.
        inputs = pad_sequence([row[:-1] for row in batch], batch_first=True, padding_value=tokenizer.eos_token_id)
        targets = pad_sequence([row[1:] for row in batch], batch_first=True, padding_value=-100)
        loss = cross_entropy(model(input_ids=inputs).logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, steps, float(loss.detach()))


def build(directory: Path, *, steps: int = STEPS, on_step: OnStep | None = None) -> None:
    """Builds tokenizer and model and writes them to a directory, which is made if need be. Each file appears whole.

    Raises:
        ModelError: the directory cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Inside it, so that moving a finished file there is one atomic rename.
        with tempfile.TemporaryDirectory(dir=directory, prefix=".build-") as work:
            tokenizer = build_tokenizer()
            model = build_model(tokenizer, steps=steps, on_step=on_step)
            _save(model, tokenizer, Path(work))
            for made in sorted(Path(work).iterdir()):
                made.replace(directory / made.name)
    except OSError as error:
        raise ModelError(
            f"the model cannot be written: {error.strerror or error}",
            where=str(directory),
            fix="give a directory that you may write to",
        ) from error


def _save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer.save_pretrained(directory)
        model.save_pretrained(directory)
    finally:
        if shown:
            logging.enable_progress_bar()
    for file in directory.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone
