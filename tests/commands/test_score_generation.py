"""`fairtest score MODEL PROMPTS --scorer ...` as a user meets it."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import pytest

from fairtest.experiments import generation_scores
from fairtest.metrics.generation import honest
from fairtest.probes.registry import load_probe_set
from fairtest.scoring.completions import Decoding
from fairtest.scoring.generation import generate
from fairtest.scoring.text_scorers import TextScorer, resolve_scorer
from fairtest.training.models import load_model
from fairtest.training.sources import resolve_model

SHORT = ("--samples", "2", "--max-new-tokens", "6")


def share_of_e(texts):
    return [text.count("e") / len(text) for text in texts]


@pytest.fixture
def score(run, tmp_path):
    def call(*arguments, model="fairtest/tiny", probes="occupation_prompts"):
        return run("score", model, probes, "--cache-dir", tmp_path / "store", "--threads", 1, *arguments)

    return call


@pytest.fixture
def toy(monkeypatch):
    """The scorer "toy" beside those there are."""
    known = {"toy": TextScorer("toy", "1", share_of_e), "minus": TextScorer("minus", "1", lambda t: [-1.0] * len(t))}
    monkeypatch.setattr(generation_scores, "resolve_scorer", lambda name: known.get(name) or resolve_scorer(name))


@pytest.fixture
def own(tmp_path):
    def write(text, name="own.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


OWN = "prompt,group,cluster\nThe nurse came. He,m,a\nThe pilot came. He,m,b\nThe nurse came. She,f,a\n"


def test_the_table_gives_both_groups_difference_interval_and_ratio_and_how_it_was_decoded(score, toy):
    found = score("--scorer", "toy", *SHORT)
    assert found.status == 0
    lines = found.out.splitlines()
    assert lines[0].startswith("fairtest/tiny (SHA-256 ")
    assert lines[2:4] == [
        "licence: Apache-2.0",
        "use: any use with its licence; made for measuring, not for training",
    ]
    assert lines[4:9] == [
        "scorer: toy, revision 1",
        "completions: 2 of each prompt, 1 to 6 tokens, temperature 1, top-p 1, seed 0",
        "",
        "gender: first is masculine, second is feminine",
        "240 pairs of prompts in 40 clusters, 960 completions scored",
    ]
    assert lines[10].split("  ")[0] == "statistic"
    number, interval = r"-?\d\.\d{3}", r"\[-?\d\.\d{3}, -?\d\.\d{3}\]"
    for line, label in zip(lines[11:14], ("mean", "share >= 0.5", "maximum of 2"), strict=True):
        assert re.fullmatch(rf"{label} +({number} +){{3}}({interval}|nothing varied) +({number}|none)", line)
    assert max(map(len, lines)) <= 80


def test_json_holds_gaps_decoding_and_scorer_and_no_path(score, toy, tmp_path):
    file = tmp_path / "out" / "gaps.json"
    assert score("--scorer", "toy", *SHORT, "--top-p", "0.9", "--seed", "3", "--json", file).status == 0
    document = json.loads(file.read_text())
    (axis,) = document["axes"]
    assert (axis["axis"], axis["items"], axis["paired"], axis["clusters"]) == ("gender", 240, True, 40)
    assert [one["statistic"] for one in axis["gaps"]] == ["mean", "share", "maximum"]
    assert document["decoding"] == {
        "samples": 2, "max_new_tokens": 6, "min_new_tokens": 1, "temperature": 1.0, "top_p": 0.9, "seed": 3,
    }  # fmt: skip
    assert (document["scorer"], document["first"], document["second"]) == ("toy", "masculine", "feminine")
    assert document["probes"]["licence"] == "Apache-2.0"
    assert str(tmp_path) not in file.read_text()


def test_a_file_of_prompts_groups_that_are_named_and_a_ratio_that_means_nothing(score, toy, own):
    found = score("--scorer", "minus", "--groups", "m", "f", *SHORT, probes=own(OWN))
    assert found.status == 0
    assert "own: first is m, second is f\n3 prompts in 2 clusters, 6 completions scored" in found.out
    assert "no ratio where a value is below 0 or the second is 0" in found.out
    assert "prompts are not paired: the difference also holds whatever else they differ in" in found.out
    assert re.search(r"^mean +-1\.000 +-1\.000 +0\.000 +nothing varied +none$", found.out, re.MULTILINE)


@pytest.mark.parametrize("name", ["own.jsonl", "own.ndjson"])
def test_prompts_may_be_lines_of_json(score, toy, own, name):
    file = own('{"prompt": "He came", "group": "m"}\n{"prompt": "She came", "group": "f"}\n', name)
    assert score("--scorer", "toy", "--groups", "m", "f", *SHORT, probes=file).status == 0


def test_at_temperature_0_there_is_one_completion(score, toy, own):
    found = score("--scorer", "toy", "--groups", "m", "f", "--temperature", "0", "--threshold", "0.1", probes=own(OWN))
    assert "completions: 1 of each prompt, 1 to 20 tokens, always the likeliest token" in found.out
    assert "share >= 0.1" in found.out
    assert "maximum of 1" in found.out


def test_long_names_stay_within_80_columns(score, toy, own):
    names = ("people_of_a_very_long_name_that_goes_on_and_on", "others_of_a_name_that_is_not_short_either")
    text = f"prompt,group\nHe,{names[0]}\nHe,{names[0]}\nShe,{names[1]}\n"
    found = score("--scorer", "toy", "--groups", *names, *SHORT, probes=own(text))
    assert found.status == 0
    assert all(name in found.out for name in names)
    assert max(map(len, found.out.splitlines())) <= 80


@pytest.fixture
def judge(tmp_path):
    """A directory that holds a text classifier of random weights with these labels."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

    from fairtest.tiny import model_directory

    def save(*labels):
        tokenizer = AutoTokenizer.from_pretrained(model_directory(), local_files_only=True)
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5,
            bos_token_id=0, eos_token_id=0, id2label=dict(enumerate(labels)),
            label2id={label: place for place, label in enumerate(labels)},
        )  # fmt: skip
        GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "judge")
        tokenizer.save_pretrained(tmp_path / "judge")
        return f"hf:{tmp_path / 'judge'}"

    return save


def test_a_classifier_scores_completions(score, judge):
    scorer = judge("fine", "toxic")
    found = score("--scorer", scorer, "--samples", "1", "--max-new-tokens", "4")
    assert found.status == 0, found.err
    assert "judge:toxic" in found.out.replace("\n  ", "")
    assert "480 completions scored" in found.out
    unknown = score("--scorer", f"{scorer}:hate", "--samples", "1", "--max-new-tokens", "4")
    assert (unknown.status, unknown.out) == (2, "")
    assert "has no label 'hate'" in unknown.err


def test_one_statistic_is_the_row_of_the_usual_three(score, toy):
    def rows(*arguments):
        lines = score("--scorer", "toy", *SHORT, *arguments).out.splitlines()
        return [line.split() for line in lines if re.match(r"(mean|share|maximum) ", line)]

    usual = rows()
    assert len(usual) == 3
    assert [rows("--statistic", name) for name in ("mean", "share", "maximum")] == [[row] for row in usual]


def test_regard_is_the_gap_of_every_class(score, judge, tmp_path):
    file = tmp_path / "regard.json"
    scorer = judge("negative", "neutral", "positive")
    found = score("--scorer", scorer, "--statistic", "regard", *SHORT, "--json", file)
    assert found.status == 0, found.err
    (axis,) = json.loads(file.read_text())["axes"]
    assert [one["statistic"] for one in axis["gaps"]] == ["regard[negative]", "regard[neutral]", "regard[positive]"]
    assert sum(one["first_value"] for one in axis["gaps"]) == pytest.approx(1.0, abs=1e-6)
    assert sum(one["difference"] for one in axis["gaps"]) == pytest.approx(0.0, abs=1e-6)
    # A class is what the classifier's label is on its own.
    score("--scorer", f"{scorer}:neutral", "--statistic", "mean", *SHORT, "--json", file)
    (mean,) = json.loads(file.read_text())["axes"][0]["gaps"]
    assert {**mean, "statistic": "regard[neutral]"} == axis["gaps"][1]
    assert "positive]" in found.out
    assert max(map(len, found.out.splitlines())) <= 80


def test_honest_is_the_share_of_completions_with_a_word_of_the_list(score, own, tmp_path):
    words = own("# adjectives\nhappy\n\nvery sad\nHAPPY\n", name="words.txt")
    file = tmp_path / "honest.json"
    found = score("--statistic", "honest", "--lexicon", words, *SHORT, "--json", file)
    assert found.status == 0, found.err
    assert "lexicon: 3 words, revision " in found.out
    document = json.loads(file.read_text())
    (axis,) = document["axes"]
    (one,) = axis["gaps"]
    prompts = load_probe_set("occupation_prompts")
    written = generate(load_model(resolve_model("fairtest/tiny")), prompts, Decoding(samples=2, max_new_tokens=6))
    expected = honest(written, prompts, ["happy", "very sad"])
    assert (one["first_value"], one["second_value"]) == pytest.approx(
        (expected.by_group["masculine"], expected.by_group["feminine"])
    )
    assert (one["statistic"], axis["completions"], document["scorer"]) == ("honest", 960, "3 words")
    assert str(tmp_path) not in file.read_text()


def test_the_words_of_a_table_are_those_of_a_column(score, own):
    table = own("id\tpos\tlemma\n1\ta\thappy\n2\ta\tsad\n", name="lexicon.tsv")
    plain = own("sad\nhappy\n", name="words.txt")
    lines = [score("--statistic", "honest", "--lexicon", file, *SHORT).out.splitlines() for file in (table, plain)]
    assert lines[0] == lines[1]
    assert lines[0][-1].startswith("honest ")


def test_vader_scores_completions_and_asked_again_imports_no_torch(tmp_path):
    pytest.importorskip("vaderSentiment")
    command = [sys.executable, "-X", "importtime", "-m", "fairtest", "score", "fairtest/tiny", "occupation_prompts"]
    command += ["--scorer", "vader", *SHORT, "--cache-dir", str(tmp_path / "store"), "--threads", "1"]
    cold = subprocess.run(command, capture_output=True, text=True, check=True)
    warm = subprocess.run(command, capture_output=True, text=True, check=True)
    assert warm.stdout == cold.stdout
    assert "scorer: vader, revision" in warm.stdout
    assert " torch\n" not in warm.stderr


def test_vader_without_its_package_says_how_to_get_it(score, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = score("--scorer", "vader")
    assert (found.status, found.out) == (2, "")
    assert "pip install vaderSentiment" in found.err


PAIRS = "sent_more,sent_less\nHe is a nurse.,She is a nurse.\n"


@pytest.mark.parametrize(
    ("arguments", "probes", "message"),
    [
        ((), "occupation_prompts", "--scorer vader (sentiment), or --scorer hf:MODEL:LABEL"),
        ((), OWN, "is a set of prompts: a model is measured by what it writes after them"),
        (("--statistic", "mode"), "occupation_prompts", "unknown statistic 'mode'"),
        (("--statistic", "share"), "occupation_prompts", "no scorer is given for the share"),
        (("--statistic", "regard"), "occupation_prompts", "regard is what a classifier says of a completion"),
        (("--statistic", "regard", "--scorer", "vader"), "occupation_prompts", "unknown scorer of classes 'vader'"),
        (("--statistic", "regard", "--scorer", "hf:a/b:c"), "occupation_prompts", "'hf:a/b:c' names one label"),
        (("--statistic", "honest"), "occupation_prompts", "and no list of words is given; none comes with fairtest"),
        (("--statistic", "honest", "--lexicon", "no.txt"), "occupation_prompts", "there is no such list of words"),
        (("--statistic", "honest", "--lexicon", "no.txt", "--scorer", "toy"), OWN, "takes no scorer such as 'toy'"),
        (("--lexicon", "no.txt", "--scorer", "toy"), OWN, "--lexicon is about HONEST"),
        (("--lexicon", "no.txt"), "templates", "--lexicon is about completions of prompts"),
        (("--statistic", "mean", "--scorer", "toy", "--threshold", "1"), OWN, "--threshold is about the share"),
        (("--scorer", "toy", "--without", "one_word"), OWN, "no faults are known of probe set 'own'"),
        (("--samples", "3"), "templates", "--samples is about completions of prompts, and no scorer"),
        (("--max-new-tokens", "3"), "templates", "--max-new-tokens is about completions of prompts"),
        (("--scorer", "toy"), "templates", "'templates' holds texts to compare and no prompts to continue"),
        (("--scorer", "toy"), PAIRS, "'prompt' is missing; columns found: 'sent_more', 'sent_less'"),
        (("--scorer", "toy"), "nowhere.csv", "there is no such probe file"),
        (("--scorer", "toy"), OWN, "name two of one axis. own: f, m"),
        (("--scorer", "toy", "--groups", "m", "x"), OWN, "has both groups 'm' and 'x'"),
        (("--scorer", "toy", "--axis", "race"), "occupation_prompts", "has no item with axis 'race'"),
        (("--scorer", "toy"), "prompts", "are unknown to the tokenizer of model 'fairtest/tiny'"),
        (("--scorer", "toy", "--metric", "templates.log_ratio"), "templates", "--metric is about probability metrics"),
        (("--scorer", "toy", "--samples", "0"), "occupation_prompts", "samples is 0"),
        (("--scorer", "toy", "--top-p", "2"), "occupation_prompts", "top_p is 2.0"),
        (("--scorer", "toy", "--max-new-tokens", "9999"), "occupation_prompts", "lower max_new_tokens"),
        (("--scorer", "perspective"), "occupation_prompts", "unknown text scorer 'perspective'"),
    ],
)
@pytest.mark.usefixtures("toy")
def test_a_user_error_is_one_message_without_a_traceback(score, own, arguments, probes, message):
    found = score(*arguments, probes=own(probes) if "\n" in probes else probes)
    assert (found.status, found.out) == (2, "")
    assert message in found.err
    assert found.err.count("fairtest: ") == 1 + found.err.count("stopped after")
    assert "Traceback" not in found.err
