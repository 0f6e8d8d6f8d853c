"""--fairtest-executor: who trains several runs at once."""

from __future__ import annotations

import os

from plugin_sessions import runs_in, session_in

CORPUS = "".join(f'{{"text": "The nurse said that she was tired of {i} reports."}}\n' for i in range(60))
SETTINGS = 'corpus = "records.jsonl"\nsteps = 2\nbatch_size = 4\nseeds = 2\nthreads = 1\n'
TEST = """
def test_gate(arms):
    arms.baseline.train()
"""
SHORT = """
def test_short(finetune):
    finetune("short", steps=2).train()
"""
PACKAGE = """
from pathlib import Path


class Here:
    def run(self, jobs):
        from fairtest.experiments.workers import work

        for job in jobs:
            with Path("jobs.txt").open("a") as stream:
                stream.write(f"{job.seed}\\n")
            yield job, work(job)


def made(settings):
    return Here()
"""


def test_one_that_nobody_brings_is_told(session, pytester, workers):
    (pytester.path / "records.jsonl").write_text(CORPUS)
    result = session(TEST, "--fairtest-executor=cloud", *workers, settings=SETTINGS)
    result.assert_outcomes(failed=1)
    assert "unknown executor 'cloud'" in result.stdout.str()


def test_one_that_a_package_brings_is_given_every_run(warm_project, workers):
    (warm_project / "here.py").write_text(PACKAGE)
    facts = warm_project / "here-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: here\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[fairtest.executors]\nhere = here:made\n")
    (warm_project / "test_short.py").write_text(SHORT)
    path = os.pathsep.join([str(warm_project), os.environ.get("PYTHONPATH", "")])
    run = session_in(warm_project, "--fairtest-executor=here", *workers, PYTHONPATH=path)
    assert run.returncode == 0, run.stdout
    assert (warm_project / "jobs.txt").read_text() == "0\n1\n"
    assert runs_in(warm_project / ".fairtest") == 6 + 2
