"""Two processes (torchrun, gloo) against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes

from fairtest.errors import TrainingError
from fairtest.training.distributed import Processes
from fairtest.training.models import load_state

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What each of two processes ended with, by case and rank."""
    directory = tmp_path_factory.mktemp("processes")
    script = Path(two_processes.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(directory)], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        case: [
            (
                load_state(directory / f"{case}-{rank}.safetensors"),
                json.loads((directory / f"{case}-{rank}.json").read_text()),
            )
            for rank in (0, 1)
        ]
        for case in two_processes.CASES
    }


@pytest.mark.parametrize("case", two_processes.CASES)
def test_all_processes_end_with_the_same_bits(ended, case):
    (first, first_log), (second, second_log) = ended[case]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first_log["losses"] == second_log["losses"]
    assert first_log["median_norms"] == second_log["median_norms"]
    assert first_log["processes"] == 2


@pytest.mark.parametrize("case", ["plain", "private", "blocks"])
def test_two_processes_train_what_one_does(ended, case):
    expected, log = two_processes.trained(case)
    found, found_log = ended[case][0]
    difference = torch.stack([(found[name] - expected[name]).norm() for name in expected]).norm()
    assert difference / torch.stack([value.norm() for value in expected.values()]).norm() < 1e-6
    assert found_log["losses"] == pytest.approx(log.losses, rel=1e-5)
    assert found_log["clipped_share"] == pytest.approx(log.clipped_share)
    assert found_log["median_norms"] == pytest.approx(log.median_norms, rel=1e-5)


def test_processes_that_hold_other_weights_are_told(monkeypatch):
    digests = iter([["a", "a", "b"]])
    monkeypatch.setattr(Processes, "gather", lambda self, value: next(digests))
    with pytest.raises(TrainingError, match=r"processes \[2\] hold other weights than process 0 after training"):
        Processes(0, 3).require_equal([torch.nn.Parameter(torch.ones(2))], "after training")


def test_a_single_process_sends_nothing():
    alone = Processes.current()
    tensor = torch.ones(2)
    alone.add_up([tensor])
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.gather(3) == [3]
    assert alone.first(b"x") == b"x"
    assert torch.equal(tensor, torch.ones(2))
