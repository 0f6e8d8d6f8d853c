"""Small models with random weights and word-level tokenizers, built in a second without a network."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

_TEXT = "he she is was a the good bad doctor nurse who works in city park and"
WORDS = ("<s>", "</s>", "<unk>", *_TEXT.split())


def word_tokenizer(bos="<s>", eos="</s>", *, adds_bos=False, extra=()):
    vocabulary = {word: index for index, word in enumerate((*WORDS, *extra))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
        )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos, unk_token="<unk>")


def gpt2(*, tied=True, layers=2, seed=0, **options):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=40,
        n_positions=32,
        n_embd=16,
        n_layer=layers,
        n_head=2,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=tied,
        **options,
    )
    return GPT2LMHeadModel(config).eval()


def llama(*, tied=True, layers=3, seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).eval()


def loaded(model, tokenizer=None):
    return LoadedModel(model, tokenizer or word_tokenizer(), ModelSource("test", "directory", "nowhere", "0" * 64))


def save_directory(directory, model=None, tokenizer=None):
    directory.mkdir(parents=True, exist_ok=True)
    (model or gpt2()).save_pretrained(directory)
    (tokenizer or word_tokenizer()).save_pretrained(directory)
    return directory
