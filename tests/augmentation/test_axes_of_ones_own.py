from __future__ import annotations

import pytest

from fairtest.augmentation import counterfactual, counterfactuals, record_views
from fairtest.augmentation.swap import NO_COUNTERPART, NOT_REVERSIBLE
from fairtest.errors import AugmentationError, SpecError
from fairtest.specs import CDA, Arm, Training

AGE = """
groups = ["young", "middle-aged", "old"]

[[terms]]
words = ["teenager", "adult", "pensioner"]
kind = "noun"

[[terms]]
words = ["young", "middle-aged", "old"]
kind = "adjective"
with = "person"

[[terms]]
words = ["boyish", "", "elderly"]

[[terms]]
words = ["kid", "grown-up", "old-timer"]
way = "to_middle-aged"

[[phrases]]
text = "old master*"
effect = "fixed"

[[phrases]]
text = "child benefit"
effect = "false"

[lists]
person = "man woman people driver"
"""


@pytest.fixture
def age(tmp_path):
    path = tmp_path / "age.toml"
    path.write_text(AGE, encoding="utf-8")
    return CDA(axes=(str(path),))


def outputs(text, cda):
    return [one.text for one in counterfactuals(text, cda)]


def test_a_text_of_one_group_is_turned_into_each_other_one(age):
    assert outputs("A teenager called.", age) == ["An adult called.", "A pensioner called."]
    assert [one.groups for one in counterfactuals("An adult.", age)] == [
        (("middle-aged", "old"),),
        (("middle-aged", "young"),),
    ]


def test_groups_that_a_text_tells_apart_stay_apart(age):
    assert outputs("A teenager met an adult.", age) == ["An adult met a pensioner.", "A pensioner met a teenager."]


def test_a_word_that_needs_a_person_is_kept_elsewhere(age):
    assert outputs("An old man in an old house.", age) == [
        "A young man in an old house.",
        "A middle-aged man in an old house.",
    ]
    assert counterfactual("An old house.", age).kept == {"another sense": 1}
    assert outputs("An old, tired driver.", age) == [None, None]


def test_words_of_several_parts_are_found_with_any_space_or_hyphen(age):
    assert outputs("Middle @-@ aged people", age) == ["Old people", "Young people"]
    assert outputs("A MIDDLE-AGED WOMAN", age) == ["AN OLD WOMAN", "A YOUNG WOMAN"]


def test_a_group_without_the_word_gets_no_counterfactual(age):
    found = counterfactuals("She is boyish.", age)
    assert [(one.text, one.reason) for one in found] == [(None, NO_COUNTERPART), ("She is elderly.", None)]
    assert len(record_views("She is boyish.", age).views) == 2


def test_one_direction_alone(age):
    found = counterfactuals("The kid left.", age)
    assert [one.text for one in found] == ["The grown-up left.", None]
    assert found[0].flags == (NOT_REVERSIBLE,)
    assert outputs("The grown-up left.", age) == [None, None]


def test_phrases_of_ones_own_are_kept_or_leave_the_paragraph(age):
    assert counterfactual("The old masters painted.", age).kept == {"in a fixed phrase": 1}
    text = "An adult gets child benefit.\n\nA teenager does not."
    assert counterfactual(text, age).text == "An adult gets child benefit.\n\nAn adult does not."
    assert counterfactual("An adult gets child benefit.", age).reason == "swap would be false"


def test_a_word_list_in_csv(tmp_path):
    path = tmp_path / "height.csv"
    path.write_text("tall,short,note\ngiant,dwarf,\nlofty,low,size\n", encoding="utf-8")
    assert counterfactual("Two giants, a giant's lofty GIANT.", CDA(axes=(str(path),))).text == (
        "Two giants, a dwarf's low DWARF."
    )


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "height.csv"
    cda = CDA(axes=(str(path),))
    path.write_text("tall,short\ngiant,dwarf\n", encoding="utf-8")
    assert counterfactual("giant", cda).text == "dwarf"
    path.write_text("tall,short\ngiant,little one\n", encoding="utf-8")
    assert counterfactual("giant", cda).text == "little one"


def test_the_same_words_in_another_place_are_the_same_arm(tmp_path):
    arms = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "age.toml"
        path.write_text(AGE, encoding="utf-8")
        arms.append(Arm(name=folder, training=Training(), cda=CDA(axes=(str(path),))).as_dict())
    assert arms[0] == arms[1]
    assert arms[0]["cda"]["axes"] == ["age.toml"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (("gendre",), "unknown axis 'gendre'"),
        (("gender", "gender"), "CDA names an axis more than once"),
        ((), "CDA got no axis"),
        ("gender", "axes must be a list of names, got 'gender'"),
    ],
)
def test_an_axis_that_is_none_is_an_error(axes, message):
    with pytest.raises(SpecError, match=message):
        CDA(axes=axes)


def test_a_misspelt_axis_is_answered_with_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'gender'"):
        CDA(axes=("gendre",))


def test_a_file_without_words_or_with_a_circle_names_its_place(tmp_path):
    path = tmp_path / "age.toml"
    path.write_text('groups = ["young", "old"]\n', encoding="utf-8")
    with pytest.raises(AugmentationError, match="the axis has no words"):
        counterfactual("x", CDA(axes=(str(path),)))
    path.write_text(AGE.replace('"boyish"', '"adult"'), encoding="utf-8")
    with pytest.raises(AugmentationError, match=r"would go round in a circle\n  where: .*age\.toml"):
        counterfactual("x", CDA(axes=(str(path),)))
