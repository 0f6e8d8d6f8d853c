"""One small model with random weights for each family, a padded batch for it, and its row losses."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch.nn import functional

VOCABULARY = 40
_COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1}
_LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    **_COMMON,
}
_GEMMA = {**_LLAMA, "head_dim": 8, "pad_token_id": 0, "hidden_activation": "gelu_pytorch_tanh"}
_BERT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "vocab_size": VOCABULARY,
}


@dataclass(frozen=True)
class Family:
    """`dropout` names the settings that are probabilities of dropping out."""

    model: type
    config: type
    options: dict[str, Any]
    kind: str
    dropout: tuple[str, ...] = ()
    lora: tuple[str, ...] | str = "all-linear"
    attention: tuple[str, ...] = ("sdpa", "eager")
    shared: str = "nothing is shared by rows"

    def build(self, *, dropout=0.0, attention=None, seed=0):
        torch.manual_seed(seed)
        config = self.config(
            **self.options, **dict.fromkeys(self.dropout, dropout), attn_implementation=attention or self.attention[0]
        )
        model = self.model(config)
        with torch.no_grad():
            for parameter in model.parameters():  # away from the zeros and ones of new biases and norms
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.shared not in name)
        return model.train(dropout > 0)


def _gpt2(**options):
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    drops = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
    return Family(
        hf.GPT2LMHeadModel, hf.GPT2Config, {**_COMMON, **sizes, **options}, "causal", drops, ("c_attn", "c_fc")
    )


def _bert(model, config, kind="masked", drops=("hidden_dropout_prob", "attention_probs_dropout_prob"), **options):
    return Family(model, config, {**_BERT, **options}, kind, drops)


FAMILIES = {
    "gpt2": _gpt2(),
    "gpt2-untied": _gpt2(tie_word_embeddings=False),
    "llama": Family(
        hf.LlamaForCausalLM, hf.LlamaConfig, {**_LLAMA, "tie_word_embeddings": True}, "causal", ("attention_dropout",)
    ),
    "qwen2": Family(hf.Qwen2ForCausalLM, hf.Qwen2Config, {**_LLAMA}, "causal", ("attention_dropout",)),
    "qwen3": Family(hf.Qwen3ForCausalLM, hf.Qwen3Config, {**_LLAMA, "head_dim": 8}, "causal", ("attention_dropout",)),
    "gpt-neox": Family(
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig,
        {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"},
        "causal",
        ("attention_dropout", "hidden_dropout"),
    ),
    "opt": Family(
        hf.OPTForCausalLM,
        hf.OPTConfig,
        {
            **_COMMON,
            "hidden_size": 16,
            "ffn_dim": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "word_embed_proj_dim": 16,
            "pad_token_id": 2,
        },
        "causal",
        ("dropout", "attention_dropout"),
    ),
    "gemma": Family(hf.GemmaForCausalLM, hf.GemmaConfig, _GEMMA, "causal", ("attention_dropout",)),
    "gemma2": Family(
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config,
        {**_GEMMA, "sliding_window": 4, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 2.0},
        "causal",
        ("attention_dropout",),
        attention=("eager",),
    ),
    "gemma3": Family(
        hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, {**_GEMMA, "sliding_window": 4}, "causal", ("attention_dropout",)
    ),
    "bert": _bert(hf.BertForMaskedLM, hf.BertConfig),
    "roberta": _bert(hf.RobertaForMaskedLM, hf.RobertaConfig, pad_token_id=2),
    "distilbert": Family(
        hf.DistilBertForMaskedLM,
        hf.DistilBertConfig,
        {
            "dim": 16,
            "hidden_dim": 24,
            "n_layers": 2,
            "n_heads": 2,
            "max_position_embeddings": 32,
            "vocab_size": VOCABULARY,
        },
        "masked",
        ("dropout", "attention_dropout"),
    ),
    "albert": _bert(hf.AlbertForMaskedLM, hf.AlbertConfig, embedding_size=8, num_hidden_layers=4, num_hidden_groups=1),
    "bert-classifier": _bert(hf.BertForSequenceClassification, hf.BertConfig, kind="class", num_labels=3),
    "t5": Family(
        hf.T5ForConditionalGeneration,
        hf.T5Config,
        {
            "d_model": 16,
            "d_ff": 24,
            "d_kv": 8,
            "num_layers": 2,
            "num_heads": 2,
            "vocab_size": VOCABULARY,
            "relative_attention_num_buckets": 8,
            "pad_token_id": 0,
            "decoder_start_token_id": 0,
        },
        "seq2seq",
        ("dropout_rate",),
        ("q", "v", "wi", "wo"),
        shared="relative_attention_bias",
    ),
}


def batch_of(family, rows, *, length=7, seed=1):
    """Right-padded ids with their mask, and labels that are -100 at padding and at about half of the other tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=generator)
    lengths = torch.randint(3, length + 1, (rows,), generator=generator)
    lengths[0] = length
    mask = (torch.arange(length) < lengths[:, None]).long()
    if family.kind == "class":
        return {"input_ids": ids, "attention_mask": mask}, torch.randint(3, (rows, 1), generator=generator)
    learned = (torch.rand(rows, length, generator=generator) < 0.5) & (mask == 1)
    learned[:, 1] = True
    labels = torch.randint(3, VOCABULARY, (rows, length), generator=generator).where(learned, -100)
    ids = ids.where(mask == 1, family.options.get("pad_token_id", 0))
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family.kind == "seq2seq":
        inputs["decoder_input_ids"] = ids[:, : length - 2].flip(1)
        labels = labels[:, : length - 2]
    return inputs, labels


def row_losses(family, model, batch):
    """Mean negative log-likelihood of the labels of each row, [rows]."""
    inputs, labels = batch
    cached = {} if family.kind in {"masked", "class"} else {"use_cache": False}
    logits = model(**inputs, **cached).logits.float()
    if family.kind == "class":
        logits = logits[:, None]
    if family.kind == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    nll = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return nll.sum(1) / (labels != -100).sum(1)


def rows_of(batch, rows):
    """The same batch with some of its rows only."""
    inputs, labels = batch
    return {name: value[rows] for name, value in inputs.items()}, labels[rows]
