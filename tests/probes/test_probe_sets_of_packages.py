"""Probe sets that installed packages bring, by entry point."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fairtest.errors import ProbeError
from fairtest.probes import registry
from fairtest.probes.probe import Probe, ProbeSet
from fairtest.probes.registry import load_probe_set, probe_set_names


def made(name, source="package"):
    texts = {"stereotype": "a", "anti_stereotype": "b"}
    return ProbeSet(name, "1", "own", source, (Probe("i", "age", "c", texts),))


def quiz(directory):
    return made("quiz", str(directory))


def carried(directory):
    return made("stereoset")


def damaged(directory):
    raise ProbeError("a row is empty", where="quiz.csv:3", fix="fill it")


def broken(directory):
    raise RuntimeError("no such table")


def number(directory):
    return 3


NOT_A_FUNCTION = "text"


@pytest.fixture
def install(monkeypatch):
    def with_points(**points):
        def entry_points(*, group, name=None):
            assert group == "fairtest.probes"
            kept = {key: value for key, value in points.items() if name in (None, key)}
            return [
                EntryPoint(key, value if ":" in value else f"{__name__}:{value}", group) for key, value in kept.items()
            ]

        monkeypatch.setattr(registry, "entry_points", entry_points)
        monkeypatch.delenv("FAIRTEST_DATA_DIR", raising=False)

    return with_points


def test_a_package_adds_a_set_and_is_told_where_the_data_lies(install, tmp_path):
    install(quiz="quiz")
    assert load_probe_set("quiz", tmp_path).source == str(tmp_path)
    assert load_probe_set("quiz").source == "None"
    assert probe_set_names()[0] == "templates"
    assert probe_set_names()[-1] == "quiz"


def test_a_package_that_carries_a_published_set_is_asked_where_the_directory_has_none(install, tmp_path):
    install(stereoset="carried")
    assert load_probe_set("stereoset").source == "package"
    assert load_probe_set("stereoset", tmp_path).source == "package"
    assert probe_set_names().count("stereoset") == 1
    (tmp_path / "dev.json").write_text("{", encoding="utf-8")
    with pytest.raises(ProbeError, match="not JSON"):
        load_probe_set("stereoset", tmp_path)


def test_our_own_set_cannot_be_replaced(install):
    install(templates="quiz")
    assert load_probe_set("templates").source == "fairtest"


def test_nothing_of_a_package_is_imported_before_its_set_is_asked_for(install, tmp_path):
    install(quiz="no_such_module:quiz")
    assert "quiz" in probe_set_names()
    with pytest.raises(ProbeError) as caught:
        load_probe_set("unknown", tmp_path)
    assert "quiz" in caught.value.fix


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("no_such_module:quiz", "probe set 'quiz' cannot be loaded: No module named 'no_such_module'"),
        ("broken", "probe set 'quiz' cannot be loaded: no such table"),
        ("NOT_A_FUNCTION", "probe set 'quiz' cannot be loaded: 'str' object is not callable"),
        ("number", "entry point 'quiz' gives 3, not a ProbeSet of that name"),
        ("carried", "entry point 'quiz' gives a probe set named 'stereoset', not a ProbeSet of that name"),
    ],
)
def test_a_package_that_does_not_work_is_named(install, value, what):
    install(quiz=value)
    with pytest.raises(ProbeError) as caught:
        load_probe_set("quiz")
    assert caught.value.what == what
    assert caught.value.where.startswith("entry point ")
    assert caught.value.where.endswith(value)


def test_an_error_in_the_data_of_a_package_keeps_its_own_message(install):
    install(quiz="damaged")
    with pytest.raises(ProbeError) as caught:
        load_probe_set("quiz", Path("here"))
    assert (caught.value.what, caught.value.where) == ("a row is empty", "quiz.csv:3")
