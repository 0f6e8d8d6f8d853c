"""Tables of items: every item is a row, with a value or the reason why not, and files are whole or absent."""

import dataclasses
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fairtest.errors import MetricError, StoreError
from fairtest.metrics import ItemValues, item_values, on_axis, parse_metric
from fairtest.metrics import tables as module
from fairtest.metrics.tables import MetricSummary, item_table, metric_summary, write_table
from fairtest.probes.crows_pairs import read_crows_pairs
from fairtest.scoring.scores import ProbeScores

REASON = "no answer other than unknown"


def scores_of(n=4, *, fields=(), templates=(), axes=None):
    return ProbeScores(
        probe_set="crows_pairs",
        probe_digest="d",
        protocol="causal-bos",
        ids=tuple(f"p{i}" for i in range(n)),
        axes=axes or ("age",) * n,
        clusters=tuple(f"c{i % 2}" for i in range(n)),
        log_probs={
            "stereotype": tuple(-1.0 - i for i in range(n)),
            "anti_stereotype": tuple(-2.0 - i for i in range(n)),
        },
        tokens={"stereotype": (3,) * n, "anti_stereotype": (4,) * n},
        templates=templates,
        fields=fields,
    )


def values_of(ids, excluded=()):
    return ItemValues(tuple(ids), ("c",) * len(ids), (50.0,) * len(ids), excluded=dict.fromkeys(excluded, REASON))


def test_every_item_of_the_scores_is_a_row():
    scores = scores_of(templates=tuple("abcd"), fields=({"answer": "A"}, {}, {"answer": "B", "group": "g"}, {}))
    table = item_table(values_of(["p2", "p0", "p3"], ["p1"]), scores)
    assert table.to_pylist()[1] == {
        "probe_id": "p1",
        "axis": "age",
        "cluster": "c1",
        "template": "b",
        "log_prob_stereotype": -2.0,
        "tokens_stereotype": 3,
        "log_prob_anti_stereotype": -3.0,
        "tokens_anti_stereotype": 4,
        "field_answer": None,
        "field_group": None,
        "value": None,
        "excluded": REASON,
    }
    assert table["probe_id"].to_pylist() == list(scores.ids)
    assert table["value"].to_pylist() == [50.0, None, 50.0, 50.0]
    assert table["field_answer"].to_pylist() == ["A", None, "B", None]
    assert table.schema.metadata[b"fairtest.protocol"] == b"causal-bos"


@given(st.lists(st.booleans(), min_size=1).filter(any))
def test_a_row_has_a_value_or_a_reason(kept):
    ids = [f"p{i}" for i in range(len(kept))]
    values = values_of(
        [i for i, keep in zip(ids, kept, strict=True) if keep],
        [i for i, keep in zip(ids, kept, strict=True) if not keep],
    )
    rows = item_table(values, scores_of(len(kept))).to_pylist()
    assert [row["value"] is not None for row in rows] == kept
    assert all((row["value"] is None) != (row["excluded"] is None) for row in rows)


def test_types_do_not_depend_on_the_rows():
    """Tables of several models are stacked, so a column that is all null has its type too."""
    schema = item_table(values_of(["p0"]), scores_of(1)).schema
    assert [schema.field(name).type for name in ("template", "value", "excluded")] == [
        pa.string(),
        pa.float64(),
        pa.string(),
    ]
    assert schema.field("tokens_stereotype").type == pa.int64()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (
            values_of(["p0", "p1", "p2"]),
            "item 'p3' of probe set 'crows_pairs' has neither a value nor a reason why not",
        ),
        (values_of(["p0", "p1", "p2", "p3"], ["p3"]), "item 'p3' has more than one value or reason"),
        (values_of(["p0", "p1", "p2", "p3", "p3"]), "item 'p3' has more than one value or reason"),
        (values_of(["p0", "p1", "p2", "p3", "q"]), "item 'q' is not in probe set 'crows_pairs'"),
    ],
)
def test_values_and_scores_of_other_items_are_refused(values, what):
    with pytest.raises(MetricError) as caught:
        item_table(values, scores_of())
    assert caught.value.what == what


def test_the_scores_of_one_axis_go_with_its_values():
    scores = scores_of(axes=("age", "gender", "age", "gender"))
    values = item_values(parse_metric("crows_pairs.preference[age]"), scores)
    with pytest.raises(MetricError, match="item 'p1' of probe set 'crows_pairs' has neither") as caught:
        item_table(values, scores)
    assert "`on_axis(scores, axis)`" in caught.value.fix
    assert item_table(values, on_axis(scores, "age"))["probe_id"].to_pylist() == ["p0", "p2"]


def test_a_summary_says_what_the_estimate_rests_on():
    ref = parse_metric("crows_pairs.preference[age]")
    scores = dataclasses.replace(
        scores_of(3), log_probs={"stereotype": (-1.0, -1.0, -3.0), "anti_stereotype": (-2.0, -1.0, -2.0)}
    )
    assert metric_summary(ref, item_values(ref, scores)) == MetricSummary(
        metric="crows_pairs.preference[age]", protocol="fairtest", version="1", estimate=50.0, n=3, ties=1, excluded={}
    )
    some_out = ItemValues(("a",), ("c",), (1.0,), excluded={"b": "long", "c": "empty", "d": "long"})
    assert metric_summary(ref, some_out).excluded == {"empty": 1, "long": 2}


def read(path):
    if path.suffix.lower() == ".parquet":
        return parquet.read_table(path)
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


@pytest.mark.parametrize("name", ["items.parquet", "items.arrow", "ITEMS.PARQUET"])
def test_a_table_comes_back_from_its_file(tmp_path, name):
    table = item_table(values_of(["p0", "p2", "p3"], ["p1"]), scores_of())
    write_table(tmp_path / name, table)
    found = read(tmp_path / name)
    assert found.equals(table)
    assert found.schema.metadata == table.schema.metadata
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_file_that_was_there_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "items.arrow"
    path.write_bytes(b"before")

    def fail(_table, partial):
        partial.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_arrow", fail)
    with pytest.raises(StoreError) as caught:
        write_table(path, item_table(values_of(["p0"]), scores_of(1)))
    assert caught.value.what == "a table cannot be written: No space left on device"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_directory_that_does_not_exist_is_named(tmp_path, suffix):
    path = tmp_path / "nowhere" / f"items{suffix}"
    with pytest.raises(StoreError) as caught:
        write_table(path, item_table(values_of(["p0"]), scores_of(1)))
    assert caught.value.where == str(path)


@pytest.mark.parametrize(("name", "as_what"), [("items.csv", ".csv"), ("items", "a file without a suffix")])
def test_other_suffixes_are_answered_with_those_there_are(tmp_path, name, as_what):
    with pytest.raises(StoreError) as caught:
        write_table(tmp_path / name, item_table(values_of(["p0"]), scores_of(1)))
    assert caught.value.what == f"a table cannot be written as {as_what}"
    assert caught.value.fix == "name the file with one of: .parquet, .arrow"


def test_pyarrow_is_imported_only_when_a_table_is_made():
    code = "import sys, fairtest.metrics.tables; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_table_of_crows_pairs(data_dir, tmp_path):
    probes = read_crows_pairs(data_dir)
    lengths = {role: tuple(-float(len(p.texts[role])) for p in probes.probes) for role in probes.roles}
    scores = ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol="minus characters",
        ids=tuple(p.id for p in probes.probes),
        axes=tuple(p.axis for p in probes.probes),
        clusters=tuple(p.cluster for p in probes.probes),
        log_probs=lengths,
        tokens={role: tuple(len(p.texts[role].split()) for p in probes.probes) for role in probes.roles},
        templates=probes.templates,
    )
    ref = parse_metric("crows_pairs.preference")
    values = item_values(ref, scores)
    write_table(tmp_path / "items.parquet", item_table(values, scores))
    table, summary = read(tmp_path / "items.parquet"), metric_summary(ref, values)
    assert table.num_rows == summary.n == len(probes)
    assert summary.estimate == pytest.approx(sum(table["value"].to_pylist()) / table.num_rows)
    assert summary.ties == table["value"].to_pylist().count(50.0)
