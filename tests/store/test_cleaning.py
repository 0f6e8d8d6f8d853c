"""What a clean-up takes, and what it leaves to living processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairtest.digests import digest_of
from fairtest.errors import StoreError
from fairtest.store import Store
from fairtest.store import cleaning as cleaning_room
from fairtest.store.cleaning import clean, leftovers
from fairtest.store.listing import listed
from fairtest.store.use import ENTRY_FILE

DAY = 86_400.0


def in_a_process_that_ends(root: Path, code: str) -> None:
    """Entries that this process made itself would be in use for as long as the tests run."""
    script = f"from pathlib import Path\nfrom fairtest.store import Store\nstore = Store(Path({str(root)!r}))\n{code}"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def root(tmp_path):
    """Three runs, made by a process that has ended, last used 30, 20 and 10 days ago."""
    place = tmp_path / "store"
    in_a_process_that_ends(
        place, "for n in range(3): store.obtain_json('run', {'n': n}, lambda: {'text': 'x' * 10_000})"
    )
    for n in range(3):
        aged(place, n, 30 - 10 * n)
    return place


def entry(root: Path, n: int) -> Path:
    return root / "entries" / "run" / digest_of({"n": n})


def aged(root: Path, n: int, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(entry(root, n) / ENTRY_FILE, (then, then))


def left(root: Path) -> list[int]:
    return [n for n in range(3) if entry(root, n).exists()]


def test_without_a_limit_no_entry_goes(root):
    found = clean(root)
    assert (found.removed, found.in_use, found.leftovers, found.kept) == ((), (), (), 3)
    assert left(root) == [0, 1, 2]


def test_what_was_not_used_for_long_goes(root):
    found = clean(root, older_than=15 * DAY)
    assert left(root) == [2]
    assert (len(found.removed), found.kept) == (2, 1)
    assert found.freed > 20_000
    assert found.kept_bytes == sum(one.size for one in listed(root))
    assert list((root / "work").iterdir()) == []


def test_what_was_used_longest_ago_goes_first_until_the_rest_fits(root):
    each = listed(root)[0].size
    assert clean(root, keep_bytes=2 * each + 10).kept == 2
    assert left(root) == [1, 2]
    clean(root, keep_bytes=0)
    assert left(root) == []


def test_what_is_soon_made_again_goes_before_older_runs(root):
    in_a_process_that_ends(root, "store.obtain_json('trunk', {'rows': 'r'}, lambda: {'text': 'x' * 10_000})")
    found = clean(root, keep_bytes=sum(one.size for one in listed(root)) - 1)
    assert [one.kind for one in found.removed] == ["trunk"]
    assert left(root) == [0, 1, 2]


def test_a_dry_run_says_the_same_and_removes_nothing(root):
    would = clean(root, older_than=15 * DAY, dry_run=True)
    assert left(root) == [0, 1, 2]
    assert [one.digest for one in would.removed] == [one.digest for one in clean(root, older_than=15 * DAY).removed]


def test_reading_an_entry_renews_it(root):
    in_a_process_that_ends(root, "store.find('run', {'n': 0})")
    clean(root, older_than=15 * DAY)
    assert left(root) == [0, 2]


def test_looking_at_all_entries_renews_none(root):
    in_a_process_that_ends(root, "assert len(list(store.entries('run'))) == 3")
    assert listed(root)
    clean(root, older_than=1 * DAY)
    assert left(root) == []


def test_what_a_living_process_has_read_or_made_stays(root):
    store = Store(root)
    assert store.find("run", {"n": 0}) is not None
    store.obtain_json("run", {"n": "new"}, dict)
    found = clean(root, older_than=0, keep_bytes=0)
    assert left(root) == [0]
    assert len(found.in_use) == 2
    assert store.find("run", {"n": 0}).file("value.json").read_text()
    assert store.find("run", {"n": "new"}) is not None


def test_an_entry_that_somebody_waits_for_stays(root):
    from filelock import FileLock

    from fairtest.store.store import lock_file

    with FileLock(lock_file(root, "run", digest_of({"n": 1}))):
        assert clean(root, older_than=0).kept == 1
    assert left(root) == [1]


def test_an_entry_that_was_read_since_it_was_listed_stays(root, monkeypatch):
    real = cleaning_room.listed

    def listed_and_read(place):
        found = real(place)
        in_a_process_that_ends(root, "store.find('run', {'n': 0})")
        return found

    monkeypatch.setattr(cleaning_room, "listed", listed_and_read)
    assert clean(root, older_than=0).kept == 1
    assert left(root) == [0]


def test_two_clean_ups_do_not_meet(root):
    with cleaning_room._alone(root), pytest.raises(StoreError, match="another clean-up of this store is at work"):
        clean(root)


MAKER = """
import sys, time
from pathlib import Path
from fairtest.store import Store

def make(directory):
    (directory / "half.json").write_text("{")
    (directory / "trained.safetensors.part").write_bytes(b"x" * 5_000)
    print("made half", flush=True)
    time.sleep(60)
    return {}

Store(Path(sys.argv[1])).obtain("run", {"n": "killed"}, make)
"""


@pytest.fixture
def maker(root):
    with subprocess.Popen([sys.executable, "-c", MAKER, str(root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "made half\n"
        yield process
        process.kill()


def test_what_is_in_the_making_stays_and_is_a_leftover_once_its_maker_was_killed(root, maker):
    assert clean(root, older_than=0).leftovers == ()
    assert len(list((root / "work").iterdir())) == 1
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    assert Store(root).find("run", {"n": "killed"}) is None
    (found,) = leftovers(root)
    assert found.size == 5_001
    assert clean(root, dry_run=True).leftovers == (found,)
    assert clean(root).leftovers == (found,)
    assert list((root / "work").iterdir()) == []
    assert len(list((root / "locks").glob("*.lease"))) == 1  # this process' own


def test_what_a_killed_clean_up_or_writer_left_goes_and_a_fresh_file_stays(root):
    half = root / "work" / "removed-0123"
    half.mkdir()
    (half / "value.json").write_text("{}")
    (root / "report").mkdir()
    old, fresh = root / "report" / ".report.json.1.partial", root / "report" / ".report.html.2.partial"
    for path in (old, fresh):
        path.write_text("x")
    os.utime(old, (1, 1))
    assert {left.path for left in clean(root).leftovers} == {half, old}
    assert not half.exists()
    assert fresh.exists()
    assert not old.exists()


WORKER = """
import json, sys, time
from pathlib import Path
from fairtest.store import Store
from fairtest.store.store import load_json

root, seconds = Path(sys.argv[1]), float(sys.argv[2])
made, rounds, keys, end = {}, 0, 0, time.monotonic() + seconds

def maker(key):
    def make(directory):
        made[key] = made.get(key, 0) + 1
        (directory / "value.json").write_text(json.dumps({"key": key}))
        time.sleep(0.002)
        return {"key": key}
    return make

while time.monotonic() < end or keys < 40:
    store = Store(root)
    keys += 1
    for key in range(keys):
        entry = store.obtain("run", {"key": key}, maker(key))
        assert entry.result == {"key": key}
        assert load_json(entry.file("value.json")) == {"key": key}
    assert len(list(store.entries("run"))) >= keys
    rounds += 1
assert set(made.values()) <= {1}, made
print("rounds", rounds, "keys", keys, "made", len(made))
"""


def test_nothing_is_lost_while_two_processes_work_and_a_third_cleans_and_checks(tmp_path):
    from fairtest.store.checking import damage_of

    root = tmp_path / "store"
    # Some are there before: whoever looks them up in time has them, or makes them again.
    subprocess.run([sys.executable, "-c", WORKER, str(root), "0"], check=True, capture_output=True)
    assert len(listed(root)) == 40
    command = [sys.executable, "-c", WORKER, str(root), "2"]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    cleaned, removed = 0, 0
    while any(worker.poll() is None for worker in workers):
        removed += len(clean(root, older_than=0, keep_bytes=0).removed)
        assert [damage_of(one) for one in listed(root) if damage_of(one)] == []
        cleaned += 1
    for worker in workers:
        _, err = worker.communicate()
        assert worker.returncode == 0, err
    assert cleaned > 3
    assert removed >= 40  # more where one worker ended before the other
    clean(root, older_than=0)
    assert listed(root) == []
