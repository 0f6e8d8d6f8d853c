from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from fairtest.errors import StoreError
from fairtest.store import Store


def test_what_was_made_once_is_found_and_not_made_again(tmp_path):
    store = Store(tmp_path)
    calls = []

    def make(directory: Path):
        calls.append(directory)
        (directory / "value.json").write_text("{}")
        return {"answer": 42}

    first = store.obtain("run", {"a": 1}, make)
    second = Store(tmp_path).obtain("run", {"a": 1}, make)
    assert len(calls) == 1
    assert second.result == {"answer": 42} == first.result
    assert second.file("value.json").read_text() == "{}"
    assert store.find("run", {"a": 2}) is None
    assert [entry.digest for entry in store.entries("run")] == [first.digest]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_entry_whose_maker_was_stopped_leaves_nothing(tmp_path, error):
    store = Store(tmp_path)

    def make(directory: Path):
        (directory / "half.json").write_text("{")
        raise error

    with pytest.raises(error):
        store.obtain("run", {"a": 1}, make)
    assert store.find("run", {"a": 1}) is None
    assert list((tmp_path / "work").iterdir()) == []


def _slow_maker(root: str, started: str) -> None:
    def make(directory: Path):
        (directory / "half.json").write_text("{")
        Path(started).touch()
        time.sleep(60)
        return {}

    Store(Path(root)).obtain("run", {"a": 1}, make)


def test_a_killed_process_leaves_no_entry_and_no_lock(tmp_path):
    started = tmp_path / "started"
    process = multiprocessing.get_context("spawn").Process(target=_slow_maker, args=(str(tmp_path / "s"), str(started)))
    process.start()
    while not started.exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = Store(tmp_path / "s")
    assert store.find("run", {"a": 1}) is None
    assert len(list((tmp_path / "s" / "work").iterdir())) == 1
    assert store.obtain_json("run", {"a": 1}, lambda: {"made": "again"}) == {"made": "again"}
    assert list((tmp_path / "s" / "work").iterdir()) == []


def _counting_maker(root: str, log: str) -> None:
    def make() -> dict[str, int]:
        with Path(log).open("a") as stream:
            stream.write("made\n")
        time.sleep(0.2)
        return {"x": 1}

    Store(Path(root)).obtain_json("run", {"a": 1}, make)


def test_two_processes_that_want_the_same_entry_make_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=_counting_maker, args=(str(tmp_path / "s"), str(log))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text() == "made\n"


def test_a_damaged_entry_is_named_and_never_used(tmp_path):
    store = Store(tmp_path)
    store.obtain_json("scores", {"a": 1}, lambda: {"x": [1, 2, 3]})
    entry = store.find("scores", {"a": 1})
    entry.file("value.json").write_text("{}")
    with pytest.raises(StoreError, match=r"damaged: value.json[\s\S]*remove this directory"):
        store.find("scores", {"a": 1})


def test_an_entry_of_another_key_is_not_believed(tmp_path):
    store = Store(tmp_path)
    store.obtain_json("scores", {"a": 1}, lambda: {"x": 1})
    entry = store.find("scores", {"a": 1})
    document = json.loads((entry.path / "entry.json").read_text())
    document["digest"] = "0" * 64
    (entry.path / "entry.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="of another entry"):
        store.find("scores", {"a": 1})


def test_only_data_goes_into_the_store(tmp_path):
    def make(directory: Path):
        (directory / "model.pkl").write_bytes(b"")
        return {}

    with pytest.raises(StoreError, match=r"holds only \.json and \.safetensors"):
        Store(tmp_path).obtain("run", {"a": 1}, make)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_root_says_what_to_do(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StoreError, match=r"cannot be written[\s\S]*--fairtest-cache-dir"):
        Store(tmp_path / "store")


def test_a_root_that_is_a_file_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written[\s\S]*--fairtest-cache-dir"):
        Store(tmp_path / "file" / "store")


def test_a_file_that_was_changed_without_changing_its_size_is_not_believed(tmp_path):
    store = Store(tmp_path)
    store.obtain_json("scores", {"a": 1}, lambda: {"x": 1})
    path = store.find("scores", {"a": 1}).path / "value.json"
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(StoreError, match=r"value.json is not what was written"):
        store.obtain_json("scores", {"a": 1}, lambda: {"x": 1})


def test_a_store_inside_an_existing_directory_ignores_nothing_there(tmp_path):
    Store(tmp_path)
    assert not (tmp_path / ".gitignore").exists()
    Store(tmp_path / "fresh")
    assert (tmp_path / "fresh" / ".gitignore").read_text() == "*\n"
