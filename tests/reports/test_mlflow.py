"""MLflow: names that it takes, and a report logged to a real server that is read back."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from report_documents import SPITEFUL, document, spiteful

from fairtest.errors import StoreError
from fairtest.reports.mlflow import log_report, metrics, name_of, params, tags

INSTALLED = importlib.util.find_spec("mlflow") is not None
needs_mlflow = pytest.mark.skipif(not INSTALLED, reason="mlflow is not installed")
SERVER = INSTALLED and importlib.util.find_spec("flask") is not None


def test_metrics_params_and_tags_say_what_the_report_says():
    found = metrics(document())
    assert found["gates/FAIL"] == 1
    assert found["no_amplification/stereoset.ss.gender/dp_against_baseline/value"] == 5.0
    assert found["no_amplification/stereoset.ss.gender/dp_against_baseline/verdict"] == -1
    assert "no_amplification/stereoset.ss.race/dp_cda_against_baseline/low" not in found  # infinite
    assert found["privacy/epsilon/dp_cda/value"] == 2.99
    assert found["level/stereoset.ss.race/dp/high"] == 60.0
    assert found["epsilon/dp_cda"] == 2.99
    assert found["delta/dp_cda"] == 5.5e-05
    assert params(document())["epsilon"] == "8.0"
    assert params(document())["corpus_digest"] == "cd" * 32
    assert tags(document())["fairtest.verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("stereoset.ss[gender]", "stereoset.ss.gender"),
        ("a//b/../c", "a/b/c"),
        ("[", "."[:0] or "_"),
        ("ä:b", "__b"),
        ("/", "_"),
    ],
)
def test_names_are_those_that_mlflow_takes(text, name):
    assert name_of(text) == name
    assert len(name_of("x" * 1000)) <= 250


@pytest.mark.skipif(INSTALLED, reason="mlflow is installed")
def test_without_mlflow_the_user_is_told_what_to_install():
    with pytest.raises(StoreError, match=r"MLflow is not installed[\s\S]*fairtest\[mlflow\]"):
        log_report(document())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a tracking server of this machine, with a database and artefacts of its own."""
    if not SERVER:
        pytest.skip("mlflow is not installed, or without its server")
    where = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{where / 'runs.db'}", "--artifacts-destination", str(where / "artefacts"),
    ]  # fmt: skip
    log = (where / "log").open("w")
    process = subprocess.Popen(
        command, cwd=where, stdout=log, stderr=log, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "1"}
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
                    assert answer.read() == b"OK"
                break
            except OSError:
                assert process.poll() is None, (where / "log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


@needs_mlflow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("text", [None, *SPITEFUL], ids=["usual", *map(str, range(len(SPITEFUL)))])
def test_a_report_is_read_back_from_a_tracking_server(server, tmp_path, text):
    from mlflow.tracking import MlflowClient

    made = document() if text is None else spiteful(text)
    page = tmp_path / "report.html"
    page.write_text("<p>page</p>")
    run = log_report(made, files=[page], experiment="gates", tracking_uri=server)
    client = MlflowClient(tracking_uri=server)
    data = client.get_run(run).data
    assert client.get_run(run).info.status == "FINISHED"
    assert data.metrics["gates/FAIL"] == 1
    assert data.params["epsilon"] == "8.0"
    assert data.tags["mlflow.note.content"] == "4 of 6 gates hold, 1 does not hold, 1 is not decided"
    assert {one.path for one in client.list_artifacts(run)} == {"report.html", "report.json"}
    logged = json.loads(Path(client.download_artifacts(run, "report.json", str(tmp_path))).read_text())
    if text is None:
        assert logged == json.loads(json.dumps(made))
        assert data.metrics == pytest.approx(metrics(made))


@needs_mlflow
@pytest.mark.filterwarnings("default")
def test_a_server_that_is_not_there_is_the_users_to_repair(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match=r"did not take the report[\s\S]*check the tracking server"):
        log_report(document(), tracking_uri="http://127.0.0.1:9")
