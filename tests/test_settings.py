from __future__ import annotations

import pytest

from fairtest.errors import SettingsError, SpecError
from fairtest.settings import Settings, layered, session_settings, setting_names, settings_root


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


def test_word_lists_of_ones_own_lie_beside_the_settings_file(tmp_path):
    settings = layered(("p", {"cda_axes": ["gender", "lists/age.toml"]}, tmp_path))
    assert settings.cda.axes == ("gender", str(tmp_path / "lists" / "age.toml"))


def test_an_unknown_setting_is_an_error_with_a_suggestion():
    with pytest.raises(SettingsError, match=r"unknown setting 'epsilom'[\s\S]*p\.toml[\s\S]*did you mean 'epsilon'"):
        layered(("p.toml", {"epsilom": 3}, None))


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", "3"), ("seeds", 2.5), ("seeds", True), ("seeds", 0), ("cda_names", 1), ("held_out", 1.0),
     ("confidence", 0.2), ("undecided", "maybe"), ("max_collapse", 0.5), ("threads", -1), ("corpus", 7),
     ("unit", "person"), ("unit", 3), ("unit_field", 7), ("max_records_per_unit", 0), ("max_records_per_unit", -2),
     ("max_records_per_unit", 2.0), ("max_records_per_unit", True), ("release", 1), ("release", "yes"),
     ("clipping", "ghost"), ("clipping", 1), ("max_grad_norm", "mean"), ("max_grad_norm", "1.0"), ("max_grad_norm", 0),
     ("max_grad_norm", True), ("delta", 1.5), ("delta", "small"), ("optimizer", "rmsprop"), ("optimizer", None),
     ("warmup_steps", -1), ("warmup_steps", 1.5), ("momentum", 1.0), ("momentum", "0.9"), ("momentum", float("nan")),
     ("long_texts", "drop"), ("long_texts", True), ("precision", "float16"), ("precision", 32),
     ("gradient_checkpointing", 1), ("gradient_checkpointing", "yes"), ("lr_schedule", "step"), ("batch_size", 0),
     ("learning_rate", -1e-3), ("trainable", "some"), ("cda_axes", ("height",)), ("cda_axes", "gender"),
     ("cda_mode", "double"),     ("cda_mode", True), ("cda_counterfactuals", "all"), ("cda_seed", 1.5),
     ("cda_fraction", 0), ("cda_fraction", 1.5), ("cda_fraction", "half"), ("cda_fraction", True),
     ("store_frozen_layers", 0), ("store_frozen_layers", "no")],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(SettingsError) as caught:
        layered(("p.toml", {name: value}, None))
    assert name in str(caught.value)
    assert "p.toml" in caught.value.where
    assert caught.value.fix


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
    "values",
    [
        {"lora_rank": 4},
        {"trainable": "last:2", "lora_layers": 1},
        {"steps": 5, "epochs": 2.0},
        {"cda_names": True, "cda_axes": ["race"]},
    ],
)
def test_a_setting_that_would_be_ignored_is_an_error(values):
    with pytest.raises(SettingsError, match="has no effect here"):
        layered(("p", values, None))


@pytest.mark.parametrize(("name", "value"), [("family", "enforce"), ("report_dir", "out")])
def test_a_marker_cannot_set_for_one_test_what_the_whole_session_is_judged_by(tmp_path, name, value):
    with pytest.raises(SettingsError, match=f"{name!r} is one of the whole session") as caught:
        session_settings(root=tmp_path, invocation=tmp_path, marker={name: value}, marker_origin="marker of test_it")
    assert caught.value.where == "marker of test_it"


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


# -- privacy units and training ---------------------------------------------------------------------------------------


def test_every_setting_has_a_type_that_is_checked():
    for name in setting_names():
        with pytest.raises(SettingsError, match=f"setting '{name}' must be of type"):
            layered(("p.toml", {name: object()}, None))


@pytest.mark.parametrize(
    "values",
    [
        {"unit": "user", "unit_field": "author"},
        {"unit": "document", "unit_field": "book", "max_records_per_unit": 8},
        {"unit": "document"},
        {"unit": "record"},
        {"unit_field": "author", "max_records_per_unit": 1},
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
        {"optimizer": "adam", "lr_schedule": "cosine", "warmup_steps": 3, "steps": 4},
        {"max_grad_norm": "median", "release": True, "clipping": "opacus"},
        {"long_texts": "blocks", "precision": "bfloat16", "gradient_checkpointing": True},
    ],
)
def test_settings_that_go_together_reach_the_arms(values):
    settings = layered(("p.toml", values, None))
    arm = settings.arms()["dp"]
    for name, value in values.items():
        assert getattr(settings, name) == value
        for spec in (arm.training, arm.dp):
            if hasattr(spec, name):
                assert getattr(spec, name) == value


def test_a_user_without_a_column_is_refused_with_what_to_name():
    with pytest.raises(SettingsError) as caught:
        layered(("pyproject.toml [tool.fairtest]", {"unit": "user"}, None))
    assert str(caught.value) == (
        "the privacy unit is a user, and no column names the user of a record\n"
        "  where: setting 'unit', pyproject.toml [tool.fairtest]\n"
        '  do:    set unit_field to the column with the user\'s identifier, for example unit_field = "user_id"'
    )


def test_a_record_cannot_be_the_unit_of_a_corpus_that_a_column_groups():
    with pytest.raises(SettingsError, match=r"unit is a record, and unit_field = 'author' groups records into larger"):
        Settings(unit="record", unit_field="author")


def test_a_cap_on_units_of_one_record_is_refused():
    with pytest.raises(SettingsError, match=r"'max_records_per_unit' has no effect here: without unit_field"):
        Settings(max_records_per_unit=3)
    with pytest.raises(SettingsError, match="no effect here"):
        Settings(unit="document", max_records_per_unit=3)


def test_one_layer_completes_another():
    settings = layered(("pyproject.toml", {"unit": "user"}, None), ("marker", {"unit_field": "author"}, None))
    assert (settings.unit, settings.unit_field, settings.dp.unit) == ("user", "author", "user")


@pytest.mark.parametrize(
    ("values", "message", "place"),
    [
        ({"momentum": 0.9}, "momentum 0.9 has no effect with optimizer 'adamw'", "setting 'momentum', p.toml"),
        ({"steps": 5, "warmup_steps": 5}, "after 5 warmup_steps none of 5 steps", "setting 'warmup_steps', p.toml"),
        ({"long_texts": "blocks", "max_length": 1}, "no room for a token", "setting 'max_length', p.toml"),
        ({"cda_axes": ["height"]}, "unknown axis 'height'", "setting 'cda_axes', p.toml"),
        ({"epsilon": -1.0}, "epsilon must be a number above 0", "setting 'epsilon', p.toml"),
    ],
)
def test_an_arm_that_cannot_be_is_an_error_of_the_setting_where_it_was_given(values, message, place):
    with pytest.raises(SettingsError) as caught:
        layered(("p.toml", values, None))
    assert message in caught.value.what
    assert caught.value.where == place
    assert caught.value.fix


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps", ""])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(SettingsError, match="device"):
        Settings(device=device)
