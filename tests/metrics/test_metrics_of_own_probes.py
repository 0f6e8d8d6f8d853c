"""Metrics of a file of one's own: how they are written, and what they give."""

import pytest

import fairtest
from fairtest.errors import MetricError, ProbeError
from fairtest.metrics import item_values, parse_metric
from fairtest.probes.registry import load_probe_set
from fairtest.probes.templates import gender_templates
from fairtest.scoring.scores import ProbeScores

PAIRS = """sent_more,sent_less,unrelated,category
The nurse thought that she was kind.,The nurse thought that he was kind.,The nurse thought that the was kind.,gender
The engineer said that he was busy.,The engineer said that she was busy.,The engineer said that at was busy.,gender
"""


@pytest.mark.parametrize(
    ("text", "file", "axis", "unit", "target"),
    [
        ("mine.csv:preference", "mine.csv", None, "points", 50.0),
        ("probes/mine.v2.tsv:preference_norm[age]", "probes/mine.v2.tsv", "age", "points", 50.0),
        ("/my probes/mine.JSONL:log_ratio[race color]", "/my probes/mine.JSONL", "race color", "nats", 0.0),
        ("C:\\probes\\mine.ndjson:lms", "C:\\probes\\mine.ndjson", None, "points", 100.0),
        ("a.csv/b.csv:lms_norm", "a.csv/b.csv", None, "points", 100.0),
    ],
)
def test_a_metric_of_a_file_is_the_file_and_a_statistic(text, file, axis, unit, target):
    ref = parse_metric(text)
    assert (ref.metric.probe_set, ref.axis, ref.metric.unit, ref.metric.target) == (file, axis, unit, target)
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("mine.csv", "'mine.csv' names a file of probes and no statistic", "write FILE:STATISTIC; statistics: pref"),
        ("mine.csv:", "'mine.csv:' names a file of probes and no statistic", "write FILE:STATISTIC"),
        (
            "mine.csv:log_ration[age]",
            "'mine.csv:log_ration' names a file of probes and the unknown statistic 'log_ration'",
            "did you mean 'log_ratio'? write FILE:STATISTIC; statistics: preference, preference_norm, log_ratio, ",
        ),
        ("mine.txt:log_ratio", "unknown metric 'mine.txt:log_ratio'", "known metrics: "),
    ],
)
def test_what_names_no_statistic_of_a_file_is_told(text, what, fix):
    with pytest.raises(MetricError) as caught:
        parse_metric(text)
    assert caught.value.what == what
    assert fix in caught.value.fix


@pytest.fixture
def scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(PAIRS, encoding="utf-8")
    probes = load_probe_set("mine.csv")
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol="causal-bos",
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={"stereotype": (-1.0, -4.0), "anti_stereotype": (-2.0, -2.0), "unrelated": (-3.0, -3.0)},
        tokens={"stereotype": (2, 8), "anti_stereotype": (2, 2), "unrelated": (2, 2)},
    )


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("preference", 50.0), ("preference_norm", 100.0), ("log_ratio", -0.5), ("lms", 75.0), ("lms_norm", 100.0)],
)
def test_the_statistics_are_those_of_other_pairs(scores, statistic, value):
    assert item_values(parse_metric(f"mine.csv:{statistic}[gender]"), scores).estimate == value


def test_a_model_is_measured_on_a_file_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [[*probe.texts.values(), "gender"] for probe in gender_templates().probes[:24]]
    lines = ["stereotype\tanti_stereotype\tcategory", *("\t".join(row) for row in rows)]
    (tmp_path / "mine.tsv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "records.jsonl").write_text('{"text": "The nurse was kind."}\n' * 20, encoding="utf-8")
    settings = fairtest.Settings(corpus="records.jsonl", seeds=1, cache_dir=str(tmp_path / "store"))
    arms = fairtest.Arms(fairtest.Experiment(settings, fairtest.Store(tmp_path / "store")))
    measured = fairtest.Fairness(settings).measure(arms.pretrained, "mine.tsv:log_ratio[gender]")
    assert measured == fairtest.Fairness(settings).measure(arms.pretrained, "mine.tsv:log_ratio")
    ours = arms.pretrained.scores("templates", "gender")[0].log_probs
    pairs = list(zip(ours["stereotype"], ours["anti_stereotype"], strict=True))[:24]
    assert measured.value == pytest.approx(sum(more - less for more, less in pairs) / 24, abs=1e-4)
    with pytest.raises(ProbeError, match="has no item with axis 'age'"):
        fairtest.Fairness(settings).measure(arms.pretrained, "mine.tsv:log_ratio[age]")
    with pytest.raises(ProbeError, match="there is no such probe file"):
        fairtest.Fairness(settings).measure(arms.pretrained, "absent.csv:log_ratio")
    with pytest.raises(ProbeError, match="unknown to the tokenizer"):
        fairtest.Fairness(settings).measure(arms.pretrained, "templates.log_ratio[race]")
