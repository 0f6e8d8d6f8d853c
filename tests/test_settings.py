from __future__ import annotations

import pytest

from fairtest.errors import SettingsError, SpecError
from fairtest.settings import Settings, layered, session_settings, settings_root


def test_the_stronger_layer_wins_and_every_value_knows_where_it_came_from(tmp_path, monkeypatch):
    monkeypatch.delenv("FAIRTEST_CACHE_DIR", raising=False)
    (tmp_path / "pyproject.toml").write_text('[tool.fairtest]\nepsilon = 8.0\nseeds = 5\nmodel = "gpt2"\n')
    settings = session_settings(
        root=tmp_path,
        invocation=tmp_path,
        marker={"seeds": 4, "epsilon": 2.0},
        marker_origin="marker of test_x",
        command_line={"seeds": 2},
    )
    assert (settings.model, settings.epsilon, settings.seeds, settings.held_out) == ("gpt2", 2.0, 2, 0.1)
    assert settings.origin["model"] == "pyproject.toml [tool.fairtest]"
    assert settings.origin["epsilon"] == "marker of test_x"
    assert settings.origin["seeds"] == "command line"
    assert settings.origin["held_out"] == "default"


def test_relative_paths_mean_relative_to_where_they_were_written(tmp_path, monkeypatch):
    monkeypatch.delenv("FAIRTEST_CACHE_DIR", raising=False)
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    (project / "pyproject.toml").write_text('[tool.fairtest]\ncorpus = "data/x.jsonl"\n')
    settings = session_settings(root=project, invocation=elsewhere, command_line={"cache_dir": "store"})
    assert settings.corpus == str(project / "data/x.jsonl")
    assert settings.cache_dir == str(elsewhere / "store")
    assert settings.report_dir == str(project / ".fairtest/report")


def test_a_model_is_a_name_unless_such_a_directory_is_there(tmp_path):
    (tmp_path / "mine").mkdir()
    assert layered(("p", {"model": "mine"}, tmp_path)).model == str(tmp_path / "mine")
    assert layered(("p", {"model": "org/name"}, tmp_path)).model == "org/name"


def test_an_unknown_setting_is_an_error_with_a_suggestion():
    with pytest.raises(SettingsError, match=r"unknown setting 'epsilom'[\s\S]*p\.toml[\s\S]*did you mean 'epsilon'"):
        layered(("p.toml", {"epsilom": 3}, None))


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", "3"), ("seeds", 2.5), ("seeds", True), ("seeds", 0), ("cda_names", 1), ("held_out", 1.0),
     ("confidence", 0.2), ("undecided", "maybe"), ("max_collapse", 0.5), ("threads", -1), ("corpus", 7)],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        layered(("p.toml", {name: value}, None))


@pytest.mark.parametrize("epsilon", [0, -1.0, float("inf"), float("nan")])
def test_an_epsilon_that_is_no_positive_number_is_refused(epsilon):
    with pytest.raises((SpecError, SettingsError), match=r"epsilon'? must be (a number above 0|finite)"):
        _ = layered(("p", {"epsilon": epsilon}, None)).dp


@pytest.mark.parametrize(
    "values", [{"min_improvement": 0}, {"max_collapse": float("inf")}, {"seeds": "3"}, {"confidence": "x"}]
)
def test_a_guard_cannot_be_switched_off_and_types_are_checked_everywhere(values):
    with pytest.raises(SettingsError, match=next(iter(values))):
        Settings(**values)


@pytest.mark.parametrize(
    "values", [{"lora_rank": 4}, {"trainable": "last:2", "lora_layers": 1}, {"steps": 5, "epochs": 2.0}]
)
def test_a_setting_that_would_be_ignored_is_an_error(values):
    with pytest.raises(SettingsError, match="has no effect here"):
        layered(("p", values, None))


def test_settings_describe_the_five_arms_that_differ_in_dp_and_cda_alone():
    arms = Settings(epsilon=2.0, steps=7).arms()
    assert list(arms) == ["pretrained", "baseline", "cda", "dp", "dp_cda"]
    assert arms["pretrained"].training is None
    assert {name: (arm.dp is not None, arm.cda is not None) for name, arm in arms.items()} == {
        "pretrained": (False, False),
        "baseline": (False, False),
        "cda": (False, True),
        "dp": (True, False),
        "dp_cda": (True, True),
    }
    assert len({arm.training for name, arm in arms.items() if name != "pretrained"}) == 1


def test_a_broken_pyproject_names_the_file(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.fairtest\n")
    with pytest.raises(SettingsError, match=r"not valid TOML[\s\S]*pyproject.toml"):
        session_settings(root=tmp_path, invocation=tmp_path)


def test_the_nearest_pyproject_with_a_table_of_ours_is_the_project(tmp_path):
    inner = tmp_path / "project" / "tests" / "release"
    inner.mkdir(parents=True)
    assert settings_root(inner / "test_x.py") is None
    (tmp_path / "project" / "pyproject.toml").write_text("[tool.fairtest]\nseeds = 2\n")
    (inner.parent / "pyproject.toml").write_text("[tool.other]\n")
    assert settings_root(inner / "test_x.py") == tmp_path / "project"
    (inner / "pyproject.toml").write_text("[tool.fairtest]\n")
    assert settings_root(inner) == inner
