"""A training loop of your own in place of fairtest's. Everything around it stays: corpus, counterfactuals, pairing,
store, guards, gates.
"""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairtest.tiny import model_directory


@pytest.fixture
def fairtest_trainer():
    return train


def train(arm, units, seed, directory):
    """Fine-tunes the base model on units and saves it into the directory.

    `arm.training` has the settings of pyproject.toml. A unit's `views` are its record and, in an arm with CDA, the
    record's counterfactuals; `shares` says what each counts, so that a record with three views counts no more than one.
    """
    if arm.dp is not None:
        raise NotImplementedError("this loop adds no noise: judge arms without DP, or use fairtest's own trainer")
    torch.manual_seed(seed)  # nothing is seeded for you
    order = random.Random(seed)
    model = AutoModelForCausalLM.from_pretrained(model_directory())  # yours: the model of pyproject.toml
    tokenizer = AutoTokenizer.from_pretrained(model_directory())
    training = arm.training
    steps = training.steps_for(len(units))
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        batch = order.sample(units, training.batch_size)
        optimizer.zero_grad()
        mean_loss(model, tokenizer, batch, training.max_length).backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def mean_loss(model, tokenizer, batch, max_length):
    """Mean over units of the loss of their views, each view by its share."""
    texts = [tokenizer.bos_token + view for unit in batch for view in unit.views]
    shares = torch.tensor([share for unit in batch for share in unit.shares])
    rows = [tokenizer(text, truncation=True, max_length=max_length)["input_ids"] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logits = model(input_ids=ids, attention_mask=real).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    per_view = (losses * real[:, 1:]).sum(dim=1) / real[:, 1:].sum(dim=1)
    return (per_view * shares).sum() / len(batch)
