"""WinoBias: pairs, whom they are about, and faults of the data; published files where they are, own lines elsewhere."""

import re
from collections import Counter
from pathlib import Path

import pytest

from fairtest.errors import ProbeError
from fairtest.probes.faults import faults_of, without_faults
from fairtest.probes.probe import ProbeSet
from fairtest.probes.winobias import FAULTS, ITEMS, read_winobias

PARTS = [(kind, split) for kind in "12" for split in ("dev", "test")]
MASCULINE, FEMININE = {"he", "him", "his", "himself"}, {"she", "her", "hers", "herself"}

PRO = [
    "1 [The welder] thanked the typist because [he] had got help.",
    "2 The welder thanked [the typist] because [she] had given [her] help.",
]
ANTI = [
    "1 [The welder] thanked the typist because [she] had got help.",
    "2 The welder thanked [the typist] because [he] had given [his] help.",
]


@pytest.fixture
def winobias_dir(data_dir: Path) -> Path:
    if not (data_dir / "winobias").is_dir():
        pytest.skip("WinoBias is absent; set FAIRTEST_DATA_DIR")
    return data_dir / "winobias"


def write(folder, pro, anti, kind="1", split="dev"):
    for side, lines in (("pro", pro), ("anti", anti)):
        if lines is not None:
            (folder / f"{side}_stereotyped_type{kind}.{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def whole(folder, lines=396):
    """All eight files, of this many lines each."""
    for kind, split in PARTS:
        pro, anti = (
            [f"{n} {sides[n % 2][2:].replace('help', f'help {kind}{split}{n}')}" for n in range(1, lines + 1)]
            for sides in (PRO, ANTI)
        )
        write(folder, pro, anti, kind, split)
    return folder


def subset(folder, pro=PRO, anti=ANTI, **options) -> ProbeSet:
    return read_winobias(write(folder, pro, anti), strict=False, **options)


def refused(call, *arguments, **options) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        call(*arguments, **options)
    return caught.value


def test_a_pair_of_lines_is_an_item_about_the_occupation_in_brackets(tmp_path):
    first, second = subset(tmp_path).probes
    assert first.texts == {
        "stereotype": "The welder thanked the typist because he had got help.",
        "anti_stereotype": "The welder thanked the typist because she had got help.",
    }
    assert (first.id, first.axis, first.cluster, first.template) == ("type1.dev.1", "gender", "welder", "typist")
    assert (second.id, second.cluster, second.template) == ("type1.dev.2", "typist", "welder")
    assert second.fields == {
        "type": "1",
        "split": "dev",
        "occupation": "typist",
        "other_occupation": "welder",
        "pronouns": "she,her",
        "anti_pronouns": "he,his",
        "gender": "feminine",
        "faults": "",
    }


def test_a_verb_that_looks_like_an_occupation_is_none(tmp_path):
    pro = ["1 [The cook] asked the guard to cook, as [he] was ill.", "2 The cook asked [the guard] to stay with [him]."]
    anti = [re.sub(r"\[(he|him)\]", lambda m: {"he": "[she]", "him": "[her]"}[m[1]], line) for line in pro]
    first, second = subset(tmp_path, pro, anti).probes
    assert (first.fields["other_occupation"], second.fields["other_occupation"]) == ("guard", "cook")


def test_an_occupation_that_begins_with_another_is_found_whole(tmp_path):
    pro = [
        "1 [The ship] met the typist, and [he] rang.",
        "2 The ship cook met [the typist], and [she] rang.",
        "3 [The ship cook] met the typist, and [he] rang.",
    ]
    swap = {"[he]": "[she]", "[she]": "[he]"}
    anti = [re.sub(r"\[s?he\]", lambda found: swap[found[0]], line) for line in pro]
    probes = subset(tmp_path, pro, anti).probes
    assert [p.fields["other_occupation"] for p in probes] == ["typist", "ship cook", "typist"]


@pytest.mark.parametrize(
    "anti",
    [
        "1 [The welder] thanked the typist since [she] had got help.",
        "1 [The welder] thanked the typist because [she] had got some help.",
        "1 [The welder] thanked the typist because [her] had got help.",
    ],
)
def test_lines_that_differ_in_more_than_pronouns_are_a_fault(tmp_path, anti):
    first, second = subset(tmp_path, anti=[anti, ANTI[1]]).probes
    assert (first.fields["faults"], second.fields["faults"]) == ("several_edits", "")


def test_a_pronoun_that_stays_beside_one_that_changes_is_a_fault(tmp_path):
    anti = ["1 [The welder] thanked the typist because [she] had got his help.", ANTI[1]]
    first, _ = subset(tmp_path, [PRO[0].replace("got", "got his"), PRO[1]], anti).probes
    assert first.fields["faults"] == "several_edits"


def test_lines_that_are_the_same_are_a_fault(tmp_path):
    first, _ = subset(tmp_path, anti=[PRO[0], ANTI[1]]).probes
    assert first.fields["faults"] == "identical"


def test_lines_about_different_occupations_are_a_fault(tmp_path):
    anti = ["1 The welder thanked [the typist] because [she] had got help.", ANTI[1]]
    first, _ = subset(tmp_path, anti=anti).probes
    assert (first.cluster, first.fields["faults"]) == ("welder", "other_referent")


def test_the_second_of_two_equal_pairs_is_a_fault(tmp_path):
    write(tmp_path, [PRO[1]], [ANTI[1]], split="test")
    probes = subset(tmp_path).probes
    assert [(p.id, p.fields["faults"]) for p in probes] == [
        ("type1.dev.1", ""),
        ("type1.dev.2", ""),
        ("type1.test.2", "duplicate"),
    ]


def test_faults_are_left_out_by_name_and_the_version_says_so(tmp_path):
    everything = subset(tmp_path, anti=[PRO[0], ANTI[1].replace("because", "since")])
    assert [p.fields["faults"] for p in everything.probes] == ["identical", "several_edits"]
    for without, kept in (("duplicate", (0, 1)), ("identical", (1,)), ("several_edits", (0,))):
        found = without_faults(everything, [without])
        assert found.probes == tuple(everything.probes[i] for i in kept)
        assert (everything.version, found.version) == ("2018", f"2018 without {without}")
        assert found.digest != everything.digest


def test_blanks_inside_brackets_are_no_part_of_the_text(tmp_path):
    first, _ = subset(tmp_path, pro=[PRO[0].replace("[he]", "[ he ]"), PRO[1]]).probes
    assert first.texts["stereotype"] == "The welder thanked the typist because he had got help."
    assert first.fields["pronouns"] == "he"


@pytest.mark.parametrize("place", ["", "winobias", "WinoBias/wino/data", "wino/data"])
def test_files_are_found_in_the_directory_or_in_one_below(tmp_path, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write(tmp_path / place, PRO, ANTI)
    assert len(read_winobias(tmp_path, strict=False)) == 2


def test_upstream_file_names_are_known(tmp_path):
    whole(tmp_path)
    before = read_winobias(tmp_path)
    for file in list(tmp_path.iterdir()):
        stem, split, _ = file.name.split(".")
        file.rename(tmp_path / f"{stem}.txt.{split}")
    assert read_winobias(tmp_path).digest == before.digest


def test_all_eight_files_are_asked_for(tmp_path):
    whole(tmp_path)
    assert len(read_winobias(tmp_path)) == ITEMS
    (tmp_path / "anti_stereotyped_type2.dev.txt").unlink()
    for strict in (True, False):  # a pro file alone is no part of the set
        error = refused(read_winobias, tmp_path, strict=strict)
        assert error.what == "WinoBias was not found: no anti_stereotyped_type2.dev.txt in the directory nor below it"
        assert error.where == str(tmp_path)
        assert "github.com/uclanlp/corefBias" in error.fix
    (tmp_path / "pro_stereotyped_type2.dev.txt").unlink()
    assert "pro_stereotyped_type2.dev.txt" in refused(read_winobias, tmp_path).what
    assert len(read_winobias(tmp_path, strict=False)) == ITEMS - 396


@pytest.mark.parametrize("strict", [True, False])
def test_a_directory_without_files_is_named(tmp_path, strict):
    error = refused(read_winobias, tmp_path / "nowhere", strict=strict)
    assert error.what.startswith("WinoBias was not found: no pro_stereotyped_type1.dev.txt")
    assert error.where == str(tmp_path / "nowhere")


def test_another_number_of_lines_names_the_file_and_both_numbers(tmp_path):
    error = refused(read_winobias, whole(tmp_path, lines=395))
    assert error.what == "WinoBias has 396 lines in each file, and 395 were found"
    assert error.where == str(tmp_path / "pro_stereotyped_type1.dev.txt")
    assert "strict=False" in error.fix


@pytest.mark.parametrize("longer", ["pro", "anti"])
def test_a_line_without_a_counterpart_is_named(tmp_path, longer):
    sides = {"pro": PRO, "anti": ANTI, ("anti" if longer == "pro" else "pro"): (PRO if longer == "anti" else ANTI)[:1]}
    error = refused(subset, tmp_path, sides["pro"], sides["anti"])
    assert error.what == f"WinoBias: type 1 dev has {len(sides['pro'])} pro and {len(sides['anti'])} anti lines"
    assert error.where == f"{tmp_path / f'{longer}_stereotyped_type1.dev.txt'}:2"


def test_lines_with_other_numbers_do_not_pair(tmp_path):
    error = refused(subset, tmp_path, anti=[ANTI[0], ANTI[1].replace("2", "3", 1)])
    assert error.what == "WinoBias: line number 3 stands beside 2 of the pro side"
    assert error.where == f"{tmp_path / 'anti_stereotyped_type1.dev.txt'}:2"


def test_a_number_that_occurs_twice_is_named(tmp_path):
    error = refused(subset, tmp_path, pro=[PRO[0], "", PRO[1].replace("2", "1", 1)])
    assert error.what == "WinoBias: line number 1 occurs twice"
    assert error.where == f"{tmp_path / 'pro_stereotyped_type1.dev.txt'}:3"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[The welder] thanked the typist as [he] smiled.", "the line does not begin with its number: '[The welder]"),
        ("2", "the line does not begin with its number: '2'"),
        ("2 The welder thanked the typist.", "brackets one occupation and its pronouns, and this one nothing"),
        ("2 [The welder] thanked the typist.", "and this one 'The welder'"),
        ("2 The welder thanked the typist as [he] smiled.", "and this one 'he'"),
        ("2 [The welder] thanked [the typist] as [he] smiled.", "and this one 'The welder', 'the typist', 'he'"),
        ("2 [ ] thanked the typist as [he] smiled.", "and this one '', 'he'"),
        ("2 [The welder thanked the typist as [he] smiled.", "and this one 'he'"),
        ("2 [The welder] thanked the typist] as [he] smiled.", "and this one 'The welder', 'he'"),
    ],
)
@pytest.mark.parametrize("side", ["pro", "anti"])
def test_a_line_of_another_form_is_named(tmp_path, side, line, what):
    error = refused(subset, tmp_path, **{side: [(PRO if side == "pro" else ANTI)[0], line]})
    assert what in error.what
    assert error.where == f"{tmp_path / f'{side}_stereotyped_type1.dev.txt'}:2"


def test_a_sentence_about_one_occupation_is_named(tmp_path):
    error = refused(subset, tmp_path, PRO[:1], ANTI[:1])
    assert error.what == "WinoBias: no occupation beside 'welder' was found among those that lines bracket"
    assert error.where == f"{tmp_path / 'pro_stereotyped_type1.dev.txt'}:1"


def test_an_empty_file_is_named(tmp_path):
    error = refused(subset, tmp_path, [" "], ANTI)
    assert error.what == "WinoBias: the file has no line"
    assert error.where == str(tmp_path / "pro_stereotyped_type1.dev.txt")


def test_text_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path, PRO, ANTI)
    (tmp_path / "pro_stereotyped_type1.dev.txt").write_bytes(b"1 [The caf\xe9]\n")
    error = refused(read_winobias, tmp_path, strict=False)
    assert error.what.startswith("WinoBias is not UTF-8")
    assert error.where == str(tmp_path / "pro_stereotyped_type1.dev.txt")


def test_a_line_separator_of_unicode_ends_no_line(tmp_path):
    pro, anti = ([lines[0].replace("had", "had\u2028"), lines[1]] for lines in (PRO, ANTI))
    assert len(subset(tmp_path, pro, anti)) == 2


# The published files.


def raw_pairs(folder):
    """(type, split, line, pro, anti) of the files, as they are."""
    for kind, split in PARTS:
        sides = [
            (folder / f"{side}_stereotyped_type{kind}.{split}.txt").read_text(encoding="utf-8").splitlines()
            for side in ("pro", "anti")
        ]
        for at, (pro, anti) in enumerate(zip(*sides, strict=True), start=1):
            yield kind, split, at, pro, anti


def test_published_items_are_the_lines_without_numbers_and_brackets(winobias_dir):
    probes = read_winobias(winobias_dir.parent).probes
    assert len(probes) == ITEMS == 4 * 396 == 1584
    for probe, (kind, split, at, pro, anti) in zip(probes, raw_pairs(winobias_dir), strict=True):
        assert probe.id == f"type{kind}.{split}.{at}"
        # One line has a blank inside its brackets.
        plain = [re.sub(r"\[ ?|\]", "", line.partition(" ")[2]) for line in (pro, anti)]
        assert [probe.texts["stereotype"], probe.texts["anti_stereotype"]] == plain


def test_published_occupations_are_the_forty_of_the_lists_beside_them(winobias_dir):
    lists = {
        gender: (winobias_dir / name).read_text(encoding="utf-8").split("\n")
        for gender, name in (("masculine", "male_occupations.txt"), ("feminine", "female_occupations.txt"))
    }
    lean = {word.strip(): gender for gender, words in lists.items() for word in words if word.strip()}
    probes = read_winobias(winobias_dir).probes
    assert {p.cluster for p in probes} == {p.template for p in probes} == set(lean)
    for probe in probes:
        assert lean[probe.fields["occupation"]] == probe.fields["gender"]
        assert lean[probe.fields["other_occupation"]] != probe.fields["gender"]


def test_published_pairs_cross_referents_with_other_occupations(winobias_dir):
    """What makes the two occupations crossed factors of nearly equal sizes, and frames none."""
    probes = read_winobias(winobias_dir).probes
    for factor in ([p.cluster for p in probes], [p.template for p in probes]):
        sizes = Counter(factor).values()
        assert (len(sizes), min(sizes), max(sizes)) == (40, 36, 42)
    assert Counter(Counter((p.cluster, p.template) for p in probes).values()) == {2: 780, 4: 6}
    unordered = Counter(frozenset((p.cluster, p.template)) for p in probes)
    assert Counter(unordered.values()) == {4: 390, 8: 3}
    frames = {
        re.sub(
            rf"\b(the|an?) ({re.escape(p.cluster)}|{re.escape(p.template)})\b",
            "@",
            p.texts["stereotype"],
            flags=re.IGNORECASE,
        )
        for p in probes
    }
    assert len(frames) == 1580


def test_published_pronouns_are_of_one_gender_in_pro_and_of_the_other_in_anti(winobias_dir):
    """But for two pairs whose lines are about different occupations: a man in both."""
    for probe in without_faults(read_winobias(winobias_dir), ["other_referent"]).probes:
        pro, anti = (set(probe.fields[name].split(",")) for name in ("pronouns", "anti_pronouns"))
        assert (pro <= MASCULINE and anti <= FEMININE) or (pro <= FEMININE and anti <= MASCULINE), probe.id
    genders = Counter(p.fields["gender"] for p in read_winobias(winobias_dir).probes)
    assert genders == {"masculine": 792, "feminine": 792}


def test_published_faults_are_the_known_ones(winobias_dir):
    probes = read_winobias(winobias_dir).probes
    faulty = faults_of(read_winobias(winobias_dir))
    assert faulty == {name: tuple(p.id for p in probes if name in p.fields["faults"].split(",")) for name in FAULTS}
    assert {name: len(ids) for name, ids in faulty.items()} == {
        "several_edits": 21,
        "other_referent": 2,
        "identical": 0,
        "duplicate": 3,
    }
    assert faulty["other_referent"] == ("type2.test.382", "type2.test.384")
    assert faulty["duplicate"] == ("type1.test.1", "type2.test.1", "type2.test.2")


def test_published_faults_are_those_that_an_exchange_of_pronouns_does_not_make(winobias_dir):
    """The oracle goes another way: each pronoun of the pro line is replaced, "her" and "his" in both ways."""
    forms = {"he": ["she"], "him": ["her"], "his": ["her", "hers"], "himself": ["herself"], "she": ["he"]}
    forms |= {"her": ["him", "his"], "hers": ["his"], "herself": ["himself"]}
    for probe in read_winobias(winobias_dir).probes:
        made = [""]
        for piece in re.findall(r"\w+|\W+", probe.texts["stereotype"].lower()):
            made = [start + form for start in made for form in forms.get(piece, [piece])]
        good = probe.texts["anti_stereotype"].lower() in made
        assert good == ("several_edits" not in probe.fields["faults"]), probe.id


@pytest.mark.parametrize(
    ("without", "left"),
    [((), 1584), (("several_edits",), 1563), (("duplicate",), 1581), (("several_edits", "duplicate"), 1560)],
)
def test_published_faults_are_left_out_by_name(winobias_dir, without, left):
    probes = without_faults(read_winobias(winobias_dir), without)
    assert len(probes) == left
    assert not {name for p in probes.probes for name in p.fields["faults"].split(",")} & set(without)


def test_half_of_the_published_set_is_read_as_a_subset(winobias_dir, tmp_path):
    for side in ("pro", "anti"):
        name = f"{side}_stereotyped_type1.test.txt"
        (tmp_path / name).symlink_to(winobias_dir / name)
    probes = read_winobias(tmp_path, strict=False)
    assert len(probes) == 396
    assert {p.id: p.fields["other_occupation"] for p in probes.probes}.items() <= {
        p.id: p.fields["other_occupation"] for p in read_winobias(winobias_dir).probes
    }.items()
