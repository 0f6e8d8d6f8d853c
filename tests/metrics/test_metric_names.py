import dataclasses
from importlib.metadata import EntryPoint

import pytest

from fairtest.errors import MetricError
from fairtest.metrics import ItemValues, metric_names, parse_metric, registry

OWN = dataclasses.replace(registry.BUILT_IN["stereoset.ss"], name="own.metric", probe_set="own")
UNNAMED = "not a metric"


@pytest.mark.parametrize(
    ("text", "probe_set", "axis", "unit", "target"),
    [
        ("stereoset.ss[gender]", "stereoset", "gender", "points", 50.0),
        ("stereoset.lms[gender]", "stereoset", "gender", "points", 100.0),
        ("stereoset.log_ratio", "stereoset", None, "nats", 0.0),
        ("templates.log_ratio[gender]", "templates", "gender", "nats", 0.0),
        ("templates.preference[gender]", "templates", "gender", "points", 50.0),
        ("crows_pairs.preference[race-color]", "crows_pairs", "race-color", "points", 50.0),
    ],
)
def test_a_metric_is_found_by_its_name_and_prints_as_it_was_written(text, probe_set, axis, unit, target):
    ref = parse_metric(text)
    assert (ref.metric.probe_set, ref.axis, ref.metric.unit, ref.metric.target) == (probe_set, axis, unit, target)
    assert str(ref) == text


def test_every_metric_is_registered_once_under_its_own_name():
    assert all(name == metric.name for name, metric in registry.BUILT_IN.items())
    assert len({metric.description for metric in registry.BUILT_IN.values()}) > 1
    assert set(registry.BUILT_IN) <= set(metric_names())


def test_an_unknown_metric_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(MetricError) as caught:
        parse_metric("stereoset.sss[gender]")
    assert caught.value.what == "unknown metric 'stereoset.sss'"
    assert caught.value.fix.startswith("did you mean 'stereoset.ss'? known metrics: bbq.accuracy, ")


@pytest.mark.parametrize("text", ["", "stereoset.ss[", "stereoset.ss[]", "stereoset.ss]", "a b", "x[y]z", None, 3])
def test_what_is_not_written_as_a_metric_is_refused(text):
    with pytest.raises(MetricError, match="does not name a metric"):
        parse_metric(text)


def install(monkeypatch, **points):
    made = [
        EntryPoint(name.replace("__", "."), f"{__name__}:{value}" if ":" not in value else value, "fairtest.metrics")
        for name, value in points.items()
    ]

    def entry_points(*, group, name=None):
        assert group == "fairtest.metrics"
        return [point for point in made if name in (None, point.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_an_installed_package_brings_a_metric(monkeypatch):
    install(monkeypatch, own__metric="OWN")
    assert parse_metric("own.metric[age]").metric is OWN
    assert "own.metric" in metric_names()


def test_a_package_cannot_redefine_a_built_in_metric(monkeypatch):
    install(monkeypatch, stereoset__ss="OWN")
    assert parse_metric("stereoset.ss").metric is registry.BUILT_IN["stereoset.ss"]


def test_a_package_whose_metric_cannot_be_imported_is_named(monkeypatch):
    install(monkeypatch, own__metric="no_such_module_here:METRIC")
    with pytest.raises(MetricError, match=r"metric 'own.metric' cannot be loaded") as caught:
        parse_metric("own.metric")
    assert caught.value.where == "entry point no_such_module_here:METRIC"


@pytest.mark.parametrize("value", ["UNNAMED", "OWN"])
def test_an_entry_point_has_to_give_the_metric_of_its_name(monkeypatch, value):
    install(monkeypatch, other__metric=value)
    with pytest.raises(MetricError, match="not a Metric of that name"):
        parse_metric("other.metric")


def test_item_values_that_are_not_finite_name_the_item():
    with pytest.raises(MetricError, match="item 'b' has the value nan"):
        ItemValues(("a", "b"), ("t", "t"), (1.0, float("nan")))


@pytest.mark.parametrize(("ids", "clusters", "values"), [((), (), ()), (("a",), (), (1.0,)), (("a",), ("t",), ())])
def test_item_values_need_one_row_per_item(ids, clusters, values):
    with pytest.raises(MetricError, match="do not match"):
        ItemValues(ids, clusters, values)
