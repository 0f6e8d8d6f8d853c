"""What copies as records of their own make of a claimed epsilon."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "naive_cda.py"
DOCUMENTED = SCRIPT.parents[1] / "docs" / "privacy.md"
TABLE = [
    ("10000, 256, 3", "3.00", "6.08", "23.4"),
    ("10000, 256, 3", "7.98", "15.4", "59.0"),
    ("1000, 64, 5", "3.00", "6.64", "19.1"),
    ("50000, 512, 3", "2.99", "5.70", "27.4"),
]

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the benchmarks are not part of the installed package")


@pytest.fixture(scope="module")
def naive_cda():
    spec = importlib.util.spec_from_file_location("naive_cda", SCRIPT)
    sys.modules["naive_cda"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["naive_cda"]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_copies_as_records_break_a_claim(row, naive_cda):
    case = naive_cda.CASES[row]
    line = naive_cda.line_of(case, naive_cda.rows_of(case))
    cells = line.split(" | ")
    assert (cells[0], *cells[2:]) == TABLE[row]
    assert f"| {line} |" in DOCUMENTED.read_text(encoding="utf-8")


def test_the_quick_table_is_printed_and_written(naive_cda, tmp_path, capsys):
    assert naive_cda.main(["--quick", "--json", str(tmp_path / "rows.json")]) == 0
    claimed, independent, same_batch = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert {"case", "method", "seconds", "peak_mib", "ratio"} <= claimed.keys()
    assert claimed["ratio"] == 1
    assert 2 < independent["ratio"] < same_batch["ratio"]
    head, _, line = capsys.readouterr().out.strip().splitlines()
    assert head == ("| N, batch, epochs | sigma | claimed | copies sampled independently | copies in the same batch |")
    assert line.endswith("| 3.00 | 6.64 | 19.1 |")
