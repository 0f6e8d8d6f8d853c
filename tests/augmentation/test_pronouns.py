"""Her (him, his) and his (her, hers) by trained weights: what they get right, where they come from, what they cost.

The figures of text that was not trained on are in the weights' file; here they are measured again. WinoBias and
Winogender were never trained on, but the rules' word lists were extended after reading WinoBias.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from fairtest.augmentation import pronoun_corpus, pronoun_training, pronouns
from fairtest.augmentation.context import context_of
from fairtest.augmentation.disambiguation import her, his
from fairtest.errors import AugmentationError

HELD_OUT = "held-out him/his"


def at(sentence, word):
    """The context of the word in capitals."""
    start = sentence.index(word.upper())
    return context_of(sentence, start, start + len(word))


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("We watched HER for an hour.", "him"),
        ("We watched HER brother for an hour.", "his"),
        ("Nobody had warned HER about the dog.", "him"),
        ("The noise woke HER two children.", "his"),
        ("The noise woke HER twice.", "him"),
        ("They begged HER to stay.", "him"),
        ("The smell of HER kitchen made us hungry.", "his"),
        ("The rain made HER shiver.", "him"),
        ("A sudden thought crossed HER mind.", "his"),
        ("I have known HER since school.", "him"),
        ("The judge asked HER why the door was open.", "him"),
        ("Her aunt sent HER a parcel.", "him"),
        ("The nurse cleaned HER wounded knee.", "his"),
        ("Everyone admired HER for HER patience.", "him"),
        ("In HER opinion the bridge was safe.", "his"),
    ],
)
def test_her_is_an_object_or_a_possessive(sentence, expected):
    assert her(at(sentence, "her")) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A neighbour of HIS repaired the roof.", "hers"),
        ("A friend of HIS brother came to dinner.", "her"),
        ("The idea was HIS from the start.", "hers"),
        ("I met a friend of HIS yesterday.", "hers"),
        ("The idea was HIS own.", "her"),
        ("HIS was the last name on the list.", "hers"),
        ("We painted HIS fence.", "her"),
        ("I took my coat and she took HIS.", "hers"),
    ],
)
def test_his_stands_alone_or_goes_with_a_noun(sentence, expected):
    assert his(at(sentence, "his")) == expected


def test_the_weights_are_small_text_that_says_how_well_it_did():
    text = pronoun_training.write(pronouns.shipped())
    assert len(text.encode()) < 300_000
    facts = pronouns.shipped().facts
    held_out = figures(facts[HELD_OUT])
    assert held_out["n"] > 2000
    assert held_out["model"] >= 0.98
    assert held_out["model"] > held_out["rules alone"] > held_out["always 'his'"]
    left_out = {name: figures(value) for name, value in facts.items() if name.startswith("left out")}
    assert len(left_out) == 4
    assert all(found["model"] >= 0.98 and found["model"] >= found["rules alone"] for found in left_out.values())


def test_the_file_is_the_one_that_the_weights_are_written_to():
    path = pronouns.resources.files("fairtest.augmentation").joinpath("data").joinpath(pronouns.FILE)
    assert path.read_text(encoding="utf-8") == pronoun_training.write(pronouns.shipped())


def test_the_weights_are_read_only_where_a_word_needs_them():
    code = (
        "from fairtest.augmentation import counterfactual, pronouns\n"
        "from fairtest.specs import CDA\n"
        "counterfactual('He met her.', CDA())\n"
        "assert pronouns.shipped.cache_info().currsize == 0\n"
        "counterfactual('She lost her keys.', CDA())\n"
        "assert pronouns.shipped.cache_info().currsize == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("line", ["her\tp=of", "her\tp=of\tmuch", "class\t3", "hers\tp=of\t3", "", "# n\t3\t4"])
def test_a_broken_line_of_the_weights_is_named(line):
    with pytest.raises(AugmentationError) as caught:
        pronouns.parse(f"# trained on\tnothing\n{line}\n", "weights.tsv")
    assert caught.value.where == "weights.tsv, line 2"


def figures(text):
    """The numbers of a line such as "n 20, model 0.9500, rules alone 0.9000"."""
    return {name: float(value) for name, value in (part.rsplit(" ", 1) for part in text.split(", "))}


def test_held_out_figures_come_out_again(data_dir):
    paragraphs = pronoun_corpus.paragraphs(data_dir)
    examples = pronoun_corpus.examples(paragraphs)
    facts = pronouns.shipped().facts
    assert facts["digest of the texts"] == pronoun_corpus.digest(paragraphs)

    model = pronoun_training.train(
        [paragraph for paragraph in paragraphs if not paragraph.held_out],
        [example for example in examples if not example.held_out],
    )
    unseen = [e for e in examples if e.held_out and e.word == "her" and e.written in ("him", "his")]
    said = figures(facts[HELD_OUT])
    assert len(unseen) == said["n"]
    # Another machine may round the last place of a weight otherwise.
    assert pronoun_training.right(model, unseen) == pytest.approx(said["model"], abs=0.002)
    assert pronoun_training.right(None, unseen) == pytest.approx(said["rules alone"], abs=0.0001)

    # Trained on: this is what the way back of a swap needs, and no estimate for other text.
    novels = [e for e in examples if e.source in pronoun_corpus.HELD_OUT_FROM and e.written in ("him", "his")]
    assert pronoun_training.right(pronouns.shipped(), novels) >= 0.99


def test_the_weights_decide_the_sets_that_were_not_trained_on(data_dir):
    sets = pronoun_corpus.test_sets(data_dir)
    assert {name: len(rows) for name, rows in sets.items()} == {"WinoBias": 897, "Winogender": 62}
    assert pronoun_training.right(pronouns.shipped(), sets["Winogender"]) == 1.0
    assert pronoun_training.right(pronouns.shipped(), sets["WinoBias"]) >= 0.985
    texts = {paragraph.source for paragraph in pronoun_corpus.paragraphs(data_dir)}
    assert not {"winobias", "winogender"} & texts


def small_corpus(folder):
    """Texts of our own in the layout of the published ones."""
    verbs, nouns, ends = ("saw", "asked", "helped"), ("car", "friend", "letter"), ("again.", "in time.", "to go home.")
    pairs = [("him", "his"), ("me", "my"), ("them", "their")]
    lines = [
        f"The {noun} {verb} {pair[0]} {end} They {verb} {pair[1]} {noun} {end} The {noun} is {alone}, of course."
        for pair in pairs
        for alone in ("yours", "theirs", "hers")
        for verb in verbs
        for noun in nouns
        for end in ends
    ]
    for source in pronoun_corpus.HELD_OUT_FROM[:3]:
        (folder / "gutenberg-novels").mkdir(exist_ok=True)
        novel = "\n\n".join(f"{source.title()} {number}. {line}" for number, line in enumerate(lines))
        (folder / "gutenberg-novels" / f"{source}.txt").write_text(novel, encoding="utf-8")
    for name in ("wikitext-2", "bold", "stereoset", "crows-pairs", "bbq", "winobias", "winogender"):
        (folder / name).mkdir()
    wikitext = "\n".join(f" {number} {line} " for number, line in enumerate(lines))
    (folder / "wikitext-2" / "valid.txt").write_text(wikitext, encoding="utf-8")
    (folder / "bold" / "people_wiki.json").write_text(json.dumps({"all": {"one": lines[:5]}}), encoding="utf-8")
    item = {"context": "A BLANK came.", "stereotype": "I met him.", "anti-stereotype": "I met us.", "unrelated": "No."}
    (folder / "stereoset" / "stereoset_dev_flat.jsonl").write_text(json.dumps(item), encoding="utf-8")
    with (folder / "crows-pairs" / "crows_pairs_anonymized.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["sent_more", "sent_less"], ["He lost his hat.", "I lost my hat."]])
    (folder / "bbq" / "Age.jsonl").write_text(json.dumps({"context": lines[0]}), encoding="utf-8")
    (folder / "winobias" / "pro_stereotyped_type1.dev.txt").write_text("1 The cook met [him].\n", encoding="utf-8")
    winogender = "sentid\tsentence\na.b.male.txt\tThe guest lost his key.\n"
    (folder / "winogender" / "all_sentences.tsv").write_text(winogender, encoding="utf-8")


def test_the_same_texts_give_the_same_file_and_learn_what_they_say(tmp_path, capsys):
    small_corpus(tmp_path)
    for name in ("one.tsv", "two.tsv"):
        assert pronoun_training.main(["--data", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    text = (tmp_path / "one.tsv").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.tsv").read_text(encoding="utf-8")
    assert "held-out him/his: n " in capsys.readouterr().out
    model = pronouns.parse(text, "one.tsv")
    assert figures(model.facts[HELD_OUT])["model"] == 1.0
    assert her(at("They helped HER letter in time.", "her"), model) == "his"
    assert her(at("They helped HER in time.", "her"), model) == "him"


def test_training_names_the_text_that_is_missing(tmp_path):
    small_corpus(tmp_path)
    (tmp_path / "crows-pairs" / "crows_pairs_anonymized.csv").unlink()
    with pytest.raises(AugmentationError, match="a text to train on cannot be read") as caught:
        pronoun_corpus.paragraphs(tmp_path)
    assert caught.value.where.endswith("crows_pairs_anonymized.csv")


def test_a_masculine_that_is_paired_or_alone_is_no_example():
    texts = ["Each pays his or her share.", "The bike is his.", "He sold his bike.", "The US won.", "They saw us."]
    found = pronoun_corpus.examples([pronoun_corpus.Paragraph("bold", 0, text) for text in texts])
    assert [(e.written, e.word, e.label) for e in found] == [("his", "her", "his"), ("us", "her", "him")]
