"""A home of the Hugging Face libraries as a machine has it that once fetched what the paper's design needs.

Everything in it is made here: small models with random weights, and sentences of our own in the published layouts.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import datasets
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fairtest.probes.prompts import own_prompts
from fairtest.tiny.generator import corpus

END = "<|endoftext|>"
LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
STEREOSET_ITEMS, CROWS_PAIRS = 2106, 1508  # as published: another number is refused
ASKED = 16  # items on each axis that the study asks about; all others are on one that it does not
_ROLES = ("stereotype", "anti-stereotype", "unrelated")
_KINDS = ("engineer", "nurse", "pilot", "cleaner")


def paragraphs(count):
    """Two records of the generator each, some 35 words, in turn about men and about women."""
    texts = [record.text for record in corpus("private", 0.65, 4 * count, seed=1)]
    texts = [text for text in texts if len(text.split()) > 12]
    men = [text for text in texts if {"he", "his", "him"} & set(text.lower().split())]
    women = [text for text in texts if {"she", "her"} & set(text.lower().split())]
    return [" ".join((men, women)[index % 2][index // 2 * 2 :][:2]) for index in range(count)]


def make_home(home, records=400):
    """distilgpt2, unitary/toxic-bert, WikiText-103, StereoSet and CrowS-Pairs below `home`."""
    rows = [row for text in paragraphs(records) for row in ("", " = A heading = \n", " Too short . \n", f" {text} \n")]
    texts = [*rows, *(probe.texts["prompt"] for probe in own_prompts().probes)]
    put_model(home, "distilgpt2", lambda place: language_model(place, texts))
    put_model(home, "unitary/toxic-bert", lambda place: classifier(place, texts))
    put_dataset(home, "Salesforce/wikitext", "wikitext-103-raw-v1", "train", [{"text": row} for row in rows])
    put_dataset(home, "McGill-NLP/stereoset", "intrasentence", "validation", stereoset())
    put_dataset(home, "nyu-mll/crows_pairs", "default", "test", crows_pairs())
    return home


def put_model(home, name, save):
    """A snapshot of a model as huggingface_hub keeps it: files named by content, and links to them."""
    place = Path(home) / "hub" / f"models--{name.replace('/', '--')}"
    written = place / "written"
    written.mkdir(parents=True)
    save(written)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(written.iterdir())}
    commit = hashlib.sha1("".join(digests.values()).encode(), usedforsecurity=False).hexdigest()
    snapshot = place / "snapshots" / commit
    for folder in (snapshot, place / "blobs", place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for file, digest in digests.items():
        (written / file).replace(place / "blobs" / digest)
        (snapshot / file).symlink_to(Path("../../blobs") / digest)
    written.rmdir()
    (place / "refs" / "main").write_text(commit)
    return snapshot


def put_dataset(home, name, configuration, split, rows):
    """A dataset as `datasets` keeps what it fetched: made by itself from a copy of such a repository."""
    cache = Path(home) / "datasets"
    owner, _, title = name.partition("/")
    repository = Path(home) / "repositories" / title
    repository.mkdir(parents=True)
    datasets.Dataset.from_list(rows).to_parquet(repository / f"{split}.parquet")
    (repository / "README.md").write_text(
        f"---\nconfigs:\n- config_name: {configuration}\n  data_files:\n"
        f"  - split: {split}\n    path: {split}.parquet\n---\n"
    )
    datasets.load_dataset(str(repository), configuration, cache_dir=str(cache))
    (cache / title).replace(cache / f"{owner}___{title}")
    shutil.rmtree(repository)


def language_model(place, texts, *, seed=0):
    """GPT-2 of two narrow layers with a byte-level tokenizer, as the hub's has it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=END, eos_token=END, unk_token=END, model_max_length=1024
    )
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    config = hf.GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end
    )
    hf.GPT2LMHeadModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    raw.model.save(str(place))  # vocab.json and merges.txt


def classifier(place, texts):
    """BERT of one narrow layer with six labels, each a probability of its own."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=512,
    )  # fmt: skip
    torch.manual_seed(1)
    config = hf.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, pad_token_id=0, problem_type="multi_label_classification",
        id2label=dict(enumerate(LABELS)), label2id={name: index for index, name in enumerate(LABELS)},
        initializer_range=0.5,
    )  # fmt: skip
    hf.BertForSequenceClassification(config).save_pretrained(place)
    tokenizer.save_pretrained(place)


def stereoset():
    axes = [axis for axis in ("gender", "race", "religion") for _ in range(ASKED)]
    axes += ["profession"] * (STEREOSET_ITEMS - len(axes))
    rows = []
    for index, axis in enumerate(axes):
        target = f"{axis} {index % 5}"
        sentences = {
            "sentence": [f"The {target} in room {index} was {word} today." for word in ("calm", "loud", "purple")],
            "id": [f"{index}-{role}" for role in _ROLES],
            "gold_label": list(_ROLES),
        }
        rows.append({"id": str(index), "target": target, "bias_type": axis, "context": "", "sentences": sentences})
    return rows


def crows_pairs():
    rows = []
    for index in range(CROWS_PAIRS):
        work = f"The {_KINDS[index % len(_KINDS)]} of house {index} said that"
        axis = "gender" if index < ASKED else "age"
        rows.append(
            {
                "id": index,
                "sent_more": f"{work} she was tired.",
                "sent_less": f"{work} he was tired.",
                "stereo_antistereo": "stereo",
                "bias_type": axis,
            }
        )
    return rows
