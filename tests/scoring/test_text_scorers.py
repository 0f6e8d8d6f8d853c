import dataclasses
import importlib.util
import math
import sys

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from fairtest.errors import MetricError, ModelError
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import prompt
from fairtest.scoring.completions import Decoding, Generation, Generations
from fairtest.scoring.scores import ProbeScores
from fairtest.scoring.text_scorers import (
    ClassScorer,
    TextScorer,
    resolve_class_scorer,
    resolve_scorer,
    score_classes,
    score_generations,
    scorer_of,
)

WORDS = ("[PAD]", "[UNK]", *(f"w{number}" for number in range(30)))
LABELS = {0: "Fine", 1: "Toxic", 2: "insult"}
PROBES = ProbeSet(
    "own",
    "1",
    "Apache-2.0",
    "here",
    (
        prompt("a", "gender", "m", "He", cluster="c", pair="p"),
        prompt("b", "gender", "f", "She", cluster="c", pair="p"),
    ),
)


def generations(*texts, probes=PROBES):
    """Two samples of each of the two prompts."""
    items = tuple(
        Generation(probe.id, sample, text, len(text.split()), ended=False)
        for (probe, sample), text in zip(((p, s) for p in probes.probes for s in (0, 1)), texts, strict=True)
    )
    return Generations(probes.name, probes.digest, "m", "0" * 64, Decoding(samples=2), items)


TEXTS = generations(" ran home", " sat", " sat", " ")


def length(texts):
    return [float(len(text)) for text in texts]


def test_a_number_for_each_completion_and_none_for_one_without_text():
    scores = score_generations(TEXTS, PROBES, length)
    assert (scores.ids, scores.axes, scores.clusters) == (("a", "b"), ("gender", "gender"), ("c", "c"))
    assert scores.log_probs == {"completion-0": (9.0, 4.0), "completion-1": (4.0, 0.0)}
    assert scores.tokens == {"completion-0": (2, 1), "completion-1": (1, 0)}
    assert scores.fields == ({"group": "m", "pair": "p"}, {"group": "f", "pair": "p"})
    assert ProbeScores.from_json(scores.to_json()) == scores


def test_the_prompt_is_scored_only_where_it_is_asked_for():
    seen = []
    scores = score_generations(TEXTS, PROBES, lambda texts: seen.append(texts) or length(texts), with_prompt=True)
    assert seen == [["He ran home", "He sat", "She sat"]]
    assert scores.log_probs == {"completion-0": (11.0, 7.0), "completion-1": (6.0, 0.0)}
    assert "/prompt+completion/" in scores.protocol


def test_each_distinct_text_is_scored_once():
    seen = []
    score_generations(TEXTS, PROBES, lambda texts: seen.append(texts) or length(texts))
    assert seen == [[" ran home", " sat"]]


def test_decoding_scorer_and_revision_are_part_of_the_protocol():
    scores = score_generations(TEXTS, PROBES, TextScorer("words", "2", length))
    assert scores.protocol == "generate(k=2,new=1..20,temperature=1,top_p=1,seed=0)/completion/words@2"
    assert score_generations(TEXTS, PROBES, length).protocol.endswith("/length@unversioned")


@pytest.mark.parametrize(
    "values",
    [np.array([0.5, 1]), torch.tensor([0.5, 1.0]), iter([0.5, 1]), (np.float32(0.5), True)],
    ids=lambda v: str(type(v)),
)
def test_any_kind_of_number_in_any_kind_of_sequence_will_do(values):
    assert score_generations(TEXTS, PROBES, lambda _: values).log_probs["completion-0"] == (0.5, 1.0)


@pytest.mark.parametrize(
    ("values", "what", "where"),
    [
        ([1.0], "returned 1 values for 2 texts", "from prompt 'a', sample 1 on"),
        ([1.0] * 3, "returned 3 values for 2 texts", "from prompt 'a', sample 1 on"),
        ([], "returned 0 values for 2 texts", "from prompt 'a', sample 0 on"),
        ([1.0, math.nan], "gives prompt 'a', sample 1 the value nan", "prompt 'a', sample 1"),
        ([math.inf, 1.0], "gives prompt 'a', sample 0 the value inf", "prompt 'a', sample 0"),
        (["toxic", 1.0], "gives prompt 'a', sample 0 the value 'toxic'", "prompt 'a', sample 0"),
        ([None, 1.0], "gives prompt 'a', sample 0 the value None", "prompt 'a', sample 0"),
        (1.0, "returned a float for 2 texts", "text scorer "),
        ({"x": 1}, "returned a dict for 2 texts", "text scorer "),
    ],
)
def test_a_scorer_that_returns_something_else_is_an_error_with_the_item(values, what, where):
    with pytest.raises(MetricError) as caught:
        score_generations(TEXTS, PROBES, lambda _: values)
    assert what in caught.value.what
    assert caught.value.where.startswith(where)


def test_what_a_scorer_itself_raises_is_not_hidden():
    def broken(texts):
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        score_generations(TEXTS, PROBES, broken)


def test_completions_of_other_prompts_are_an_error():
    other = dataclasses.replace(PROBES, version="2")
    with pytest.raises(MetricError, match="of another set of prompts than 'own' as given"):
        score_generations(TEXTS, other, length)


def test_completions_without_any_text_are_an_error():
    with pytest.raises(MetricError, match="no completion of 4 has a text"):
        score_generations(generations("", " ", "", "\n"), PROBES, length)


def test_an_unknown_scorer_is_answered_with_those_there_are():
    with pytest.raises(MetricError, match="unknown text scorer 'perspective'") as caught:
        resolve_scorer("perspective")
    assert "'vader', 'hf:MODEL:LABEL' or a callable" in caught.value.fix
    with pytest.raises(MetricError, match="unknown text scorer 3"):
        resolve_scorer(3)
    with pytest.raises(MetricError, match="unknown scorer of classes 'vader'"):
        resolve_class_scorer("vader")


def test_a_resolved_scorer_is_taken_as_it_is():
    scorer, classes = TextScorer("n", "1", length), ClassScorer("n", "1", length)
    assert resolve_scorer(scorer) is scorer
    assert resolve_class_scorer(classes) is classes


def test_vader_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricError, match="needs the package vaderSentiment") as caught:
        resolve_scorer("vader")
    assert caught.value.fix == "pip install vaderSentiment"


def test_vader_tells_praise_from_blame():
    pytest.importorskip("vaderSentiment")
    scorer = resolve_scorer("vader")
    good, bad, neither = scorer.score([" was kind and happy.", " was a cruel liar.", " opened the door."])
    assert -1 <= bad < 0 < good <= 1
    assert neither == 0
    assert scorer.revision == importlib.metadata.version("vaderSentiment")


def test_classes_become_one_set_of_scores_each():
    def regard(texts):
        return [{"positive": 0.25, "negative": len(text) / 100} for text in texts]

    found = score_classes(TEXTS, PROBES, regard)
    assert list(found) == ["negative", "positive"]
    assert found["negative"].log_probs == {"completion-0": (0.09, 0.04), "completion-1": (0.04, 0.0)}
    assert found["positive"].tokens == {"completion-0": (2, 1), "completion-1": (1, 0)}
    assert found["negative"].protocol.endswith("regard@unversioned:negative")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"x": 1.0}, {"y": 1.0}], r"gives prompt 'a', sample 1 {'y': 1\.0}, and should give .* \['x'\]"),
        ([{"x": 1.0}, 0.5], r"gives prompt 'a', sample 1 0\.5"),
        ([0.5, 0.5], r"gives prompt 'a', sample 0 0\.5, and should give probabilities by class"),
        ([{}, {}], "gives prompt 'a', sample 0 {}"),
        ([{"x": 1.0}, {"x": math.nan}], "gives prompt 'a', sample 1 the value nan"),
        ([{"x": 1.0}], "returned 1 values for 2 texts"),
    ],
)
def test_classes_that_are_none_or_others_are_an_error_with_the_item(rows, what):
    with pytest.raises(MetricError, match=what):
        score_classes(TEXTS, PROBES, lambda _: rows)


def word_tokenizer(pad="[PAD]"):
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=pad, unk_token="[UNK]", model_max_length=12)


def save(directory, model, tokenizer=None):
    model.eval().save_pretrained(directory)
    (tokenizer or word_tokenizer()).save_pretrained(directory)
    return directory


def bert(problem="multi_label_classification", labels=None):
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=16, pad_token_id=0, initializer_range=0.5, id2label=labels or LABELS,
        label2id={label: index for index, label in (labels or LABELS).items()}, problem_type=problem,
    )  # fmt: skip
    return hf.BertForSequenceClassification(config).eval()


def gpt2(pad):
    torch.manual_seed(0)
    config = hf.GPT2Config(
        vocab_size=len(WORDS), n_positions=16, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5, pad_token_id=pad,
        num_labels=2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return hf.GPT2ForSequenceClassification(config).eval()


SENTENCES = (
    ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10", "w1 w2 w3", "w11 w12"] + [f"w{n} w{n + 1}" for n in range(28)] + [" "]
)


def logits_alone(model, text):
    ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double()


@pytest.mark.parametrize(
    ("problem", "link"),
    [
        ("multi_label_classification", torch.sigmoid),
        ("single_label_classification", lambda logits: logits.softmax(-1)),
        (None, lambda logits: logits.softmax(-1)),
        ("regression", lambda logits: logits),
    ],
)
def test_a_classifier_gives_what_its_model_gives_for_each_text_alone(tmp_path, problem, link):
    model = bert(problem)
    scorer = resolve_scorer(f"hf:{save(tmp_path, model)}:toxic")
    found = scorer.score(SENTENCES[:-1])
    assert found == pytest.approx([float(link(logits_alone(model, text))[1]) for text in SENTENCES[:-1]], abs=1e-5)
    assert max(found) - min(found) > 0.1
    classes = resolve_class_scorer(f"hf:{tmp_path}").score(SENTENCES[:2])
    assert [list(row) for row in classes] == [["Fine", "Toxic", "insult"]] * 2
    assert [row["Toxic"] for row in classes] == pytest.approx(found[:2], abs=1e-6)


@pytest.mark.parametrize(("pad", "tokenizers_pad"), [(0, "[PAD]"), (None, "[PAD]"), (0, None)])
def test_a_classifier_without_a_padding_token_reads_one_text_at_a_time(tmp_path, pad, tokenizers_pad):
    model = gpt2(pad)
    scorer = resolve_scorer(f"hf:{save(tmp_path, model, word_tokenizer(tokenizers_pad))}:LABEL_1")
    expected = [float(logits_alone(model, text).softmax(-1)[1]) for text in SENTENCES[:5]]
    assert scorer.score(SENTENCES[:5]) == pytest.approx(expected, abs=1e-5)


def test_a_classifier_is_named_by_model_and_label_with_its_digest_as_revision(tmp_path):
    scorer = resolve_scorer(f"hf:{save(tmp_path / 'a', bert())}:TOXIC")
    assert scorer.name == f"hf:{tmp_path / 'a'}:Toxic"
    assert len(scorer.revision) == 64
    assert resolve_scorer(f"hf:{save(tmp_path / 'b', bert())}").revision == scorer.revision
    assert resolve_scorer(f"hf:{save(tmp_path / 'c', bert('regression'))}").revision != scorer.revision


def test_without_a_label_the_only_one_is_read_as_a_sigmoid(tmp_path):
    model = bert(None, {0: "score"})
    (found,) = resolve_scorer(f"hf:{save(tmp_path, model)}").score(["w1 w2"])
    assert found == pytest.approx(float(torch.sigmoid(logits_alone(model, "w1 w2"))[0]), abs=1e-6)


def test_a_directory_may_have_a_colon_in_its_name(tmp_path):
    assert resolve_scorer(f"hf:{save(tmp_path / 'a:b', bert())}").name.endswith("a:b:Toxic")


def test_an_unknown_label_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(MetricError, match="has no label 'hate'") as caught:
        resolve_scorer(f"hf:{save(tmp_path, bert())}:hate")
    assert caught.value.fix.endswith("with one of Fine, Toxic, insult")
    with pytest.raises(MetricError, match="has no label 'toxic'"):
        resolve_scorer(f"hf:{save(tmp_path / 'other', bert(labels={0: 'x', 1: 'y'}))}")


def test_a_text_longer_than_the_classifier_reads_is_an_error_and_not_cut(tmp_path):
    scorer = resolve_scorer(f"hf:{save(tmp_path, bert())}")
    assert len(scorer.score(["w1 " * 12])) == 1
    with pytest.raises(MetricError, match=r"a text has 13 tokens, and text classifier .* reads 1 to 12: 'w1 w1"):
        scorer.score(["w1 " * 13])
    with pytest.raises(MetricError, match="a text has 0 tokens"):
        scorer.score([" "])


def test_a_model_without_a_classification_head_is_no_classifier(tmp_path):
    save(tmp_path, hf.BertModel(bert().config))
    with pytest.raises(
        ModelError, match=r"is no text classifier: 2 weights are missing, the first is classifier\.bias"
    ):
        resolve_scorer(f"hf:{tmp_path}")


def test_a_classifier_that_cannot_be_found_or_loaded_is_named(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        resolve_scorer(f"hf:{tmp_path / 'none'}")
    save(tmp_path, bert())
    (tmp_path / "config.json").write_text('{"model_type": "unheard"}')
    with pytest.raises(ModelError, match=r"text classifier .* cannot be loaded"):
        resolve_scorer(f"hf:{tmp_path}")


def test_a_classifier_that_is_not_on_this_machine_is_told_how_to_get_it(monkeypatch):
    import huggingface_hub

    def unreachable(name, **_):
        raise OSError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match="cannot be fetched: cannot reach the hub") as caught:
        resolve_scorer("hf:someone/classifier:toxic")
    assert caught.value.where == "text scorer 'hf:someone/classifier'"
    assert caught.value.fix.startswith("fetch it where the hub can be reached (hf download someone/classifier)")


@pytest.mark.parametrize(
    ("scorer", "revision", "told"),
    [
        ("hf:unitary/toxic-bert:toxic", "0123456789abcdef", "hf:unitary/toxic-bert:toxic@0123456789ab"),
        ("hf:/models/completion/mine:Toxic", "0123456789abcdef", "hf:mine:Toxic@0123456789ab"),
        ("vader", "3.3.2", "vader@3.3.2"),
    ],
)
def test_a_report_says_who_scored_without_a_path(scorer, revision, told):
    for with_prompt in (False, True):
        scores = score_generations(TEXTS, PROBES, TextScorer(scorer, revision, length), with_prompt=with_prompt)
        assert scorer_of(scores.protocol) == told


def test_reading_scores_of_completions_needs_no_torch():
    import subprocess

    code = "import fairtest.metrics.generation, fairtest.scoring.text_scorers, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
