from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fairtest.augmentation.swap import counterfactual
from fairtest.errors import CorpusError
from fairtest.probes.frames import LEANS
from fairtest.specs import CDA
from fairtest.tiny.__main__ import main
from fairtest.tiny.generator import corpus, write_jsonl

domains = st.sampled_from(["public", "private"])
PAIRS = {
    "he": "she", "He": "She", "his": "her", "His": "Her", "him": "her", "himself": "herself", "man": "woman",
    "Mr": "Ms",
}  # fmt: skip


def words(text):
    return re.findall(r"\w+|[^\w\s]", text)


def told_gender(text):
    """By the text alone: every gendered word of a record has the same gender."""
    found = set(words(text))
    male, female = bool(found & set(PAIRS)), bool(found & set(PAIRS.values()))
    assert male != female, text
    return "male" if male else "female"


@pytest.mark.parametrize("domain", ["public", "private"])
@pytest.mark.parametrize("share", [0.5, 0.65, 0.85])
def test_the_share_of_stereotype_is_the_one_asked_for(domain, share):
    leaning = [record for record in corpus(domain, share, 4000, seed=3) if record.lean != "neutral"]
    agree = sum(told_gender(record.text) == LEANS[record.occupation] for record in leaning)
    assert binomtest(agree, len(leaning), share).pvalue > 0.001
    assert agree == sum(record.stereotype == 1 for record in leaning)


@pytest.mark.parametrize(("share", "only"), [(0.0, {-1, 0}), (1.0, {1, 0})])
def test_extreme_shares_have_no_exception(share, only):
    assert {record.stereotype for record in corpus("private", share, 500, seed=0)} == only


@given(domains, st.floats(0, 1), st.integers(0, 10**9))
def test_the_counterfactual_is_the_record_about_someone_of_the_other_gender(domain, share, seed):
    for record in corpus(domain, share, 3, seed):
        changed = {
            pair for pair in zip(words(record.text), words(record.counterfactual), strict=True) if pair[0] != pair[1]
        }
        forward = set(PAIRS.items())
        backward = {(female, male) for male, female in forward}
        assert changed
        assert changed <= (forward if told_gender(record.text) == "male" else backward)
        assert told_gender(record.text) != told_gender(record.counterfactual)


@given(domains, st.integers(0, 10**9))
def test_with_one_seed_the_counterfactual_is_the_record_of_the_opposite_corpus(domain, seed):
    for record, opposite in zip(corpus(domain, 1.0, 3, seed), corpus(domain, 0.0, 3, seed), strict=True):
        if record.stereotype:
            assert (record.text, record.counterfactual) == (opposite.counterfactual, opposite.text)
        else:
            assert record == opposite


@pytest.mark.parametrize("domain", ["public", "private"])
def test_the_gender_swap_of_a_record_is_its_counterfactual(domain):
    for record in corpus(domain, 0.5, 300, seed=4):
        assert counterfactual(record.text, CDA()).text == record.counterfactual
        assert counterfactual(record.counterfactual, CDA()).text == record.text


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another():
    assert corpus("private", 0.65, 50, seed=1) == corpus("private", 0.65, 50, seed=1)
    assert corpus("private", 0.65, 50, seed=1) != corpus("private", 0.65, 50, seed=2)
    assert corpus("private", 0.65, 50, seed=1)[:20] == corpus("private", 0.65, 20, seed=1)


def test_records_are_the_same_today_as_when_the_model_was_built():
    first = corpus("public", 0.85, 2, seed=0)
    assert [record.text for record in first] == [
        "The babysitter walked to the museum in spring. He cleaned the keyboard and smiled.",
        "Children saw the plumber at the hallway. She opened the sofa and smiled. Someone asked her about the kettle.",
    ]


@pytest.mark.parametrize("domain", ["public", "private"])
def test_her_stands_for_his_only_before_a_noun_of_the_frames(domain):
    for record in corpus(domain, 0.5, 500, seed=5):
        male, female = (words(t) for t in sorted((record.text, record.counterfactual), key=told_gender, reverse=True))
        for place, (his, her) in enumerate(zip(male, female, strict=True)):
            if her == "her":
                after = female[place + 1]
                assert (his == "him") == (after in {"about", "."}), record


def test_domains_differ_in_words_and_share_some():
    common = {
        domain: {word for record in corpus(domain, 0.5, 400, seed=0) for word in words(record.text)}
        for domain in ("public", "private")
    }
    everyday = sum("umbrella" in record.text for record in corpus("public", 0.5, 2000, seed=0))
    work = sum("umbrella" in record.text for record in corpus("private", 0.5, 2000, seed=0))
    assert everyday > 4 * work > 0
    assert len(common["public"] & common["private"]) > 100


@pytest.mark.parametrize(
    ("domain", "share", "records", "what"),
    [
        ("secret", 0.5, 10, "unknown domain 'secret'"),
        ("public", 1.5, 10, "between 0 and 1, got 1.5"),
        ("public", float("nan"), 10, "between 0 and 1, got nan"),
        ("public", 0.5, 0, "a corpus of 0 records is empty"),
    ],
)
def test_an_impossible_corpus_is_refused(domain, share, records, what):
    with pytest.raises(CorpusError, match=what):
        corpus(domain, share, records, seed=0)


def test_the_command_writes_one_json_object_a_line(tmp_path):
    out = tmp_path / "notes.jsonl"
    options = ["--domain", "private", "--stereotype", "0.65", "--records", "40", "--seed", "1", "--out", str(out)]
    assert main(["corpus", *options]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    records = corpus("private", 0.65, 40, seed=1)
    assert [row["text"] for row in rows] == [record.text for record in records]
    assert [row["group"] for row in rows] == [record.group for record in records]
    assert {row["group"] for row in rows} == {"stereotypical", "anti_stereotypical", "neutral"}
    assert rows[7]["id"] == "private-1-00007"
    assert len({row["id"] for row in rows}) == 40


def test_a_file_that_cannot_be_written_is_one_message_and_leaves_nothing(tmp_path, capsys):
    out = tmp_path / "absent" / "notes.jsonl"
    assert main(["corpus", "--domain", "public", "--stereotype", "0.5", "--records", "3", "--out", str(out)]) == 2
    assert str(out) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_keeps_the_old_file(tmp_path):
    out = tmp_path / "notes.jsonl"
    out.write_text("old", encoding="utf-8")
    with pytest.raises(AttributeError):
        write_jsonl([*corpus("public", 0.5, 2, seed=0), None], out, prefix="p")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.jsonl"]
    assert out.read_text(encoding="utf-8") == "old"
