"""Small masked models with random weights, tokenizers with sub-words, and the slow way to score with them."""

import difflib
import math

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from fairtest.probes.probe import Probe, ProbeSet
from fairtest.training.models import LoadedModel
from fairtest.training.sources import ModelSource

_WORDS = "the a nurse doctor he she is was were kind people work in park and of so [ ] . , ' - ! s not very"
_PIECES = "##s ##er ##ed ##ly un gra ##nd ##ki ##nd ##ly cl ##s sep"
_LETTERS = [piece for letter in "abcdefghijklmnopqrstuvwxyz" for piece in (letter, f"##{letter}")]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = 64


def wordpiece_tokenizer(corpus=None, vocabulary=400, **named):
    """As BERT's: lower case, ## in front of what continues a word; trained where there is a corpus."""
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    if corpus is None:
        known = dict.fromkeys([*SPECIAL, *_WORDS.split(), *_PIECES.split(), *_LETTERS])
        raw.model = models.WordPiece({word: index for index, word in enumerate(known)}, unk_token="[UNK]")
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    if corpus is not None:
        from tokenizers.trainers import WordPieceTrainer

        trainer = WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
        raw.train_from_iterator(corpus, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", **named}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, **{f"{name}_token": token for name, token in names.items() if token is not None}
    )


def byte_tokenizer():
    """As RoBERTa's: a space belongs to the word behind it; <mask> takes the space in front of it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, "Ġk", "Ġki", "nd", "Ġkind", "Ġp", "eo", "<mask>"]
    vocabulary = {symbol: index for index, symbol in enumerate(tokens)}
    merges = [("Ġ", "k"), ("Ġk", "i"), ("n", "d"), ("Ġki", "nd"), ("Ġ", "p"), ("e", "o")]
    raw = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "cls": "<s>", "sep": "</s>"}
    mask = hf.AddedToken("<mask>", lstrip=True, special=True)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, mask_token=mask, **{f"{name}_token": token for name, token in names.items()}
    )


_SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_WIDE = {"initializer_range": 0.4, "max_position_embeddings": LONGEST}  # scores differ far more than rounding does


def _build(model, config, tokenizer, **options):
    torch.manual_seed(0)
    options = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **_WIDE, **options}
    made = model(config(**options)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # away from the zeros and ones of new biases and norms
            parameter.add_(0.1 * torch.randn_like(parameter))
    return loaded(made, tokenizer)


def bert(tokenizer=None, **options):
    return _build(hf.BertForMaskedLM, hf.BertConfig, tokenizer or wordpiece_tokenizer(), **{**_SIZES, **options})


def roberta():
    return _build(hf.RobertaForMaskedLM, hf.RobertaConfig, byte_tokenizer(), type_vocab_size=1, **_SIZES)


def distilbert():
    sizes = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
    return _build(hf.DistilBertForMaskedLM, hf.DistilBertConfig, wordpiece_tokenizer(), **sizes)


def albert():
    return _build(hf.AlbertForMaskedLM, hf.AlbertConfig, wordpiece_tokenizer(), embedding_size=8, **_SIZES)


def electra():
    return _build(hf.ElectraForMaskedLM, hf.ElectraConfig, wordpiece_tokenizer(), embedding_size=8, **_SIZES)


FAMILIES = {"bert": bert, "roberta": roberta, "distilbert": distilbert, "albert": albert, "electra": electra}


def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, ModelSource("test", "directory", "nowhere", "0" * 64))


PAIR = ("stereotype", "anti_stereotype")
TRIPLE = (*PAIR, "unrelated")


def probe_set(*texts, roles=None, **fields):
    probes = tuple(
        Probe(f"p{index}", "gender", f"t{index}", dict(zip(roles or TRIPLE, found, strict=False)), **fields)
        for index, found in enumerate(texts)
    )
    return ProbeSet("own", "1", "Apache-2.0", "here", probes)


def log_prob_of(model, row, position, token):
    """One row, no padding, all logits."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row])).logits[0, position]
    return float(logits.double().log_softmax(-1)[token])


def plain_token(found, ids, at):
    row = list(ids)
    row[at] = found.tokenizer.mask_token_id
    return log_prob_of(found.model, row, at, ids[at])


def plain_pll(found, text):
    """(sum, number of tokens): every position but the first and the last, one at a time."""
    ids = found.tokenizer.encode(text)
    each = [plain_token(found, ids, at) for at in range(1, len(ids) - 1)]
    return sum(each), len(each)


def plain_unmodified(found, more, less):
    """The published algorithm of CrowS-Pairs: for each sentence (sum, number of tokens)."""
    ids = [found.tokenizer.encode(text) for text in (more, less)]
    shared = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, *([str(i) for i in row] for row in ids)).get_opcodes():
        if kind == "equal":
            shared[0].extend(range(a, b))
            shared[1].extend(range(c, d))
    sums = [sum(plain_token(found, row, at) for at in own[1:-1]) for row, own in zip(ids, shared, strict=True)]
    return [(total, len(shared[0]) - 2) for total in sums]


def plain_blank(found, context, word):
    """The published algorithm of StereoSet: (log of the mean probability, number of sub-tokens).

    It puts strings together, so it holds where the pieces of a word are read again as the same pieces.
    """
    tokenizer = found.tokenizer
    pieces = tokenizer.encode(word, add_special_tokens=False)
    each = []
    for count, token in enumerate(pieces):
        known = tokenizer.decode(pieces[:count])
        row = tokenizer.encode(context.replace("BLANK", f"{known}{tokenizer.mask_token}"))
        position = row.index(tokenizer.mask_token_id)
        each.append(math.exp(log_prob_of(found.model, row, position, token)))
    return math.log(sum(each) / len(each)), len(each)
