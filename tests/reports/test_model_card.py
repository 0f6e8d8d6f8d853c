"""A model card keeps what is in it, has the numbers as Hugging Face reads them, and is the same after a second time."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard
from report_documents import SPITEFUL, document, gate, spiteful

from fairtest.errors import StoreError
from fairtest.reports.model_card import BEGIN, END, merged, released_arm, results, section, write_card

THEIRS = """---
# who we are
license:   apache-2.0   # with odd spaces
tags: [ 'a',"b" ]
model-index:
- name: our-model
  results:
  - task: {type: text-generation}
    dataset: {name: Ours, type: ours}
    metrics:
    - {type: accuracy, value: 0.5}
language: en
---
# Our model

Words with trailing space \n
    code
"""


def test_the_section_has_verdicts_epsilon_unit_and_intervals():
    text = section(document(), "dp_cda")
    assert text.startswith(f"{BEGIN}\n## Fairness and privacy\n")
    assert text.endswith(END)
    for words in ("| PASS | PASS | dp\\_cda against baseline | stereoset.ss\\[gender\\], points |",
                  "| 2.99 | 5.5e-05 | record | add or remove one unit | PLD, dp-accounting 0.6.0 |",
                  "Training gives epsilon = 2.99", "level with its 95% interval", "SHA-256 abababababab",
                  "one seed, so the verdict is about this checkpoint only"):  # fmt: skip
        assert words in text, words
    assert "dp against baseline" not in text


def test_an_arm_without_gates_or_statement_says_so():
    text = section(document(), "baseline")
    assert "No gate was judged on this arm." in text
    assert "### Privacy" not in text


def test_results_are_read_back_by_hugging_face():
    made = {result.metric_name: result for result in ModelCard(merged("", document(), "dp_cda")).data.eval_results}
    level = made["stereoset.ss[gender]"]
    assert (level.dataset_name, level.dataset_config, level.metric_value) == ("stereoset", "gender", 58.0)
    assert level.metric_args == {"confidence": 0.95, "low": 53.0, "high": 61.0, "seeds": 5, "items": 640}
    epsilon = made["differential privacy, epsilon"]
    assert epsilon.metric_value == 2.99
    assert epsilon.metric_args["delta"] == 5.5e-05
    assert epsilon.metric_args["unit"] == "record"
    assert epsilon.metric_args["accountant"] == "PLD, dp-accounting 0.6.0"
    assert made["perplexity"].dataset_name == "dp_cda.jsonl, held out"


def test_a_card_that_is_there_is_kept():
    text = merged(THEIRS, document(), "dp_cda")
    assert text.startswith(
        "---\n# who we are\nlicense:   apache-2.0   # with odd spaces\ntags: [ 'a',\"b\" ]\nlanguage: en\n"
    )
    assert "# Our model\n\nWords with trailing space \n\n    code\n" in text
    card = ModelCard(text)
    assert card.data.model_name == "our-model"
    assert card.data.license == "apache-2.0"
    kept = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert [result.metric_value for result in kept] == [0.5]
    assert len(card.data.eval_results) == 1 + len(results(document(), "dp_cda"))


@pytest.mark.parametrize(
    "before", ["", "# Only words", THEIRS, "---\nlicense: mit\n---\n", THEIRS.replace("\n", "\r\n")]
)
def test_merging_twice_changes_nothing_more(before):
    once = merged(before, document(), "dp_cda")
    assert merged(once, document(), "dp_cda") == once
    assert "\r\n" not in before or "\n" not in once.replace("\r\n", "")


def test_a_newer_report_replaces_the_older_one_and_nothing_else():
    older = merged(THEIRS, document(), "dp_cda") + "\nMore of ours below.\n"
    newer = merged(older, document(gates=[gate(candidate="dp")], measurements=[]), "dp")
    assert newer.count(BEGIN) == newer.count(END) == 1
    assert "dp\\_cda against" not in newer
    assert newer.endswith("\nMore of ours below.\n")
    names = {result.metric_name for result in ModelCard(newer).data.eval_results}
    assert names == {None, "differential privacy, epsilon"}


@pytest.mark.parametrize("text", SPITEFUL, ids=range(len(SPITEFUL)))
def test_no_name_breaks_the_card(text):
    made = spiteful(text)
    arm = list(made["arms"])[3]
    for one in made["gates"]:
        one["candidate"] = arm
    card = merged(THEIRS, made, arm)
    card.encode("utf-8")
    assert card.count(BEGIN) == card.count(END) == 1
    assert merged(card, made, arm) == card
    assert ModelCard(card).data.license == "apache-2.0"
    assert "<script" not in card.partition("\n---\n")[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{BEGIN}\n", "marks of fairtest's section are damaged"),
        (f"{END}\n{BEGIN}\n", "marks of fairtest's section are damaged"),
        (f"{BEGIN}{END}{BEGIN}{END}", "stands 2 times"),
        ("---\na: [\n---\n", "are not YAML"),
        ("---\n- a\n---\n", "are no mapping"),
        ("---\nmodel-index: 7\n---\n", "is no model index"),
        ("---\nmodel-index:\n- results: [{}]\n---\n", "is no model index"),
        ("---\n{model-index: [], license: mit}\n---\n", "cannot be replaced"),
    ],
)
def test_a_damaged_card_is_not_touched(tmp_path, text, words):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(StoreError, match=words):
        write_card(path, document(), arm="dp_cda")
    assert path.read_text() == text


def test_a_card_is_made_where_there_is_none(tmp_path):
    path = tmp_path / "my-model" / "README.md"
    write_card(path, document(), arm="dp_cda")
    assert ModelCard.load(path).data.model_name == "my-model"
    assert yaml.safe_load(path.read_text().split("---")[1])["model-index"][0]["name"] == "my-model"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match="cannot be read"):
        write_card(path, document(), arm="dp_cda")


def test_the_arm_of_a_card_is_the_private_one_unless_several_could_be_meant():
    assert released_arm(document()) == "dp_cda"
    assert released_arm(document(), "dp") == "dp"
    assert released_arm(document(gates=[gate(candidate="only")])) == "only"
    with pytest.raises(StoreError, match=r"gates on 2[\s\S]*--arm: a, b"):
        released_arm(document(gates=[gate(candidate="a"), gate(candidate="b")]))
    with pytest.raises(StoreError, match="no arm 'nobody'"):
        released_arm(document(), "nobody")
