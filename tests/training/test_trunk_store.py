"""What frozen layers put out is found in the store, by row, in any process, and changes no result."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from model_builders import gpt2, llama, loaded

from fairtest.augmentation import UnitViews
from fairtest.errors import StoreError
from fairtest.scoring.likelihood import score_texts
from fairtest.specs import Training
from fairtest.store import Store
from fairtest.store.checking import damage_of
from fairtest.store.cleaning import clean
from fairtest.store.listing import listed
from fairtest.training import trunk_store
from fairtest.training.finetune import NoiseSpec, finetune
from fairtest.training.forward import CausalForward, TokenBatch
from fairtest.training.models import set_trainable, trained_state
from fairtest.training.trunk import TrunkCache, split_trunk

ROWS = [(0, 4, 9, 11, 2, 30), (0, 7), (0, 3, 5), (0, 0, 1, 1)]
TEXTS = ["he is good", "she is good", "the nurse who works in the city", "a doctor", "she was a doctor and he was bad"]
UNITS = [UnitViews(f"u{index}", (text,)) for index, text in enumerate(TEXTS * 3)]


@pytest.fixture(autouse=True)
def _a_few_rows_are_worth_storing(monkeypatch):
    monkeypatch.setattr(trunk_store, "_LEAST_BYTES", 1)


def gpt2_without_dropout():
    return gpt2(layers=3, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)


def tuned(build=llama, trainable="lora", cache=None):
    """A model with the last layer trained, and over a trunk if there is a cache."""
    one = loaded(build())
    torch.manual_seed(3)
    set_trainable(one.model, Training(trainable=trainable, lora_rank=2, lora_layers=1))
    if cache is not None:
        one.trunk = split_trunk(one, cache)
        assert one.trunk is not None
    return one


def count_runs(one):
    """Shapes that the first frozen layer is run on from now on."""
    runs = []
    layers = one.model.transformer.h if hasattr(one.model, "transformer") else one.model.model.layers
    layers[0].register_forward_hook(lambda _module, args, _output: runs.append(tuple(args[0].shape[:2])))
    return runs


def log_probs(forward, rows=ROWS):
    with torch.no_grad():
        return forward.token_log_probs(TokenBatch.from_ids(rows))


def trunks(root):
    return [entry for entry in listed(Path(root)) if entry.kind == "trunk"]


@pytest.mark.parametrize("build", [llama, gpt2_without_dropout])
def test_plain_in_memory_and_from_the_store_are_the_same_to_a_millionth(build, tmp_path):
    store = Store(tmp_path)
    plain = log_probs(CausalForward(tuned(build)))
    scores = [score.log_prob for score in score_texts(tuned(build), TEXTS)]
    for cache in (TrunkCache(), TrunkCache(store=store), TrunkCache(max_bytes=0, store=store)):
        one = tuned(build, cache=cache)
        forward = CausalForward(one)
        forward.warm(ROWS)
        torch.testing.assert_close(log_probs(forward), plain, atol=1e-6, rtol=1e-6)
        assert [score.log_prob for score in score_texts(one, TEXTS)] == pytest.approx(scores, rel=1e-6)
    assert len(trunks(tmp_path)) == 2  # rows and texts


@pytest.mark.parametrize("noise", [None, NoiseSpec(noise_multiplier=0.5, max_grad_norm=0.1)])
def test_fine_tuning_ends_at_the_same_weights(noise, tmp_path):
    training = Training(steps=4, batch_size=6, max_length=8, learning_rate=1e-2)
    ended = []
    for cache in (None, TrunkCache(), TrunkCache(store=Store(tmp_path)), TrunkCache(store=Store(tmp_path))):
        one = tuned(cache=cache)
        finetune(one, UNITS, training, noise, seed=7)
        ended.append(trained_state(one.model))
    assert len(trunks(tmp_path)) == 1
    for state in ended[1:]:
        for name, expected in ended[0].items():
            torch.testing.assert_close(state[name], expected, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(ended[2][name], ended[3][name]) for name in ended[2])


def test_another_arm_in_another_session_runs_no_frozen_layer_for_what_is_there(tmp_path):
    CausalForward(tuned(cache=TrunkCache(store=Store(tmp_path)))).warm(ROWS)
    other = tuned(trainable="last:1", cache=TrunkCache(store=Store(tmp_path)))
    forward = CausalForward(other)
    runs = count_runs(other)
    forward.warm(ROWS[:3])
    log_probs(forward)
    assert runs == []
    assert len(trunks(tmp_path)) == 1


def test_only_rows_that_are_missing_are_computed_and_stored(tmp_path):
    CausalForward(tuned(cache=TrunkCache(store=Store(tmp_path)))).warm(ROWS[:2])
    one = tuned(cache=TrunkCache(store=Store(tmp_path)))
    forward = CausalForward(one)
    runs = count_runs(one)
    forward.warm(ROWS)
    assert runs == [(2, 4)]
    assert sorted(entry.result["rows"] for entry in trunks(tmp_path)) == [2, 2]
    assert sorted(entry.result["tokens"] for entry in trunks(tmp_path)) == [7, 8]


def test_a_row_is_found_without_its_last_token(tmp_path):
    one = tuned(cache=TrunkCache(store=Store(tmp_path)))
    forward = CausalForward(one)
    expected = log_probs(CausalForward(tuned()), [row[:-1] for row in ROWS])
    forward.warm(ROWS)
    runs = count_runs(one)
    torch.testing.assert_close(log_probs(forward, [row[:-1] for row in ROWS]), expected, atol=1e-6, rtol=1e-6)
    assert runs == []


def test_another_model_and_another_depth_share_nothing(tmp_path):
    store = Store(tmp_path)
    CausalForward(tuned(cache=TrunkCache(store=store))).warm(ROWS)
    (key,) = [entry.key for entry in trunks(tmp_path)]
    assert (key["model"], key["depth"], key["dtype"]) == ("0" * 64, 2, "float32")
    for digest, depth in (("1" * 64, 2), ("0" * 64, 1)):
        assert trunk_store.StoredStates(store, digest, depth, 16).missing(ROWS) == sorted(ROWS, key=len)


def test_what_takes_too_much_or_next_to_nothing_stays_in_memory(tmp_path, monkeypatch):
    expected = log_probs(CausalForward(tuned()))
    for most, least in ((100, 1), (1 << 30, 1 << 20)):
        monkeypatch.setattr(trunk_store, "_LEAST_BYTES", least)
        one = tuned(cache=TrunkCache(store=Store(tmp_path), max_stored_bytes=most))
        forward = CausalForward(one)
        forward.warm(ROWS)
        torch.testing.assert_close(log_probs(forward), expected, atol=1e-6, rtol=1e-6)
        assert len(one.trunk.cache.rows("0" * 64, 2)) == len(ROWS)
    assert trunks(tmp_path) == []


def test_many_rows_are_stored_in_blocks_that_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(trunk_store, "_BLOCK_BYTES", 6 * 16 * 4)
    told = []

    class Work:
        def __init__(self, label, total, unit="step", *, minor=False):
            told.append((label, total))

        def __enter__(self):
            return lambda *, done: told.append(done)

        def __exit__(self, *_):
            return None

    one = tuned(cache=TrunkCache(store=Store(tmp_path), work=Work))
    forward = CausalForward(one)
    forward.warm(ROWS)
    forward.warm(ROWS)
    assert [entry.result["tokens"] for entry in sorted(trunks(tmp_path), key=lambda e: e.result["tokens"])] == [4, 5, 6]
    assert told[0] == ("compute frozen layers", 4)
    assert told[1:] == sorted(told[1:])
    assert told[-1] == 4
    torch.testing.assert_close(log_probs(forward), log_probs(CausalForward(tuned())), atol=1e-6, rtol=1e-6)


def test_what_a_step_in_half_precision_leaves_is_in_single_precision():
    one = tuned(cache=TrunkCache())
    forward = CausalForward(one)
    with torch.autocast("cpu", torch.bfloat16):
        log_probs(forward)
    torch.testing.assert_close(log_probs(forward), log_probs(CausalForward(tuned())), atol=1e-6, rtol=1e-6)


def test_a_changed_block_is_named_and_never_used(tmp_path):
    CausalForward(tuned(cache=TrunkCache(store=Store(tmp_path)))).warm(ROWS)
    (entry,) = trunks(tmp_path)
    assert damage_of(entry) is None
    file = entry.path / "states.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert damage_of(entry).problems == ("states.safetensors is not what was written (SHA-256)",)
    forward = CausalForward(tuned(cache=TrunkCache(store=Store(tmp_path))))
    forward.warm(ROWS)
    with pytest.raises(StoreError, match="remove this directory: the entry will be made again"):
        log_probs(forward)


def _warm(root, started="", log=""):
    trunk_store._LEAST_BYTES = 1
    one = tuned(cache=TrunkCache(store=Store(Path(root))))
    forward = CausalForward(one)

    def seen(_module, args, _output):
        if started:
            Path(started).touch()
            time.sleep(60)
        with Path(log).open("a") as stream:
            stream.write(f"{len(args[0])}\n")
        time.sleep(0.2)

    one.model.model.layers[0].register_forward_hook(seen)
    forward.warm(ROWS)


def test_a_clean_up_that_takes_a_block_costs_time_only(tmp_path):
    CausalForward(tuned(cache=TrunkCache(store=Store(tmp_path)))).warm(ROWS)
    one = tuned(cache=TrunkCache(store=Store(tmp_path)))
    forward = CausalForward(one)
    forward.warm(ROWS)  # all there, and none of it read yet
    (entry,) = trunks(tmp_path)
    os.utime(entry.path / "entry.json", (1e9, 1e9))  # as if another process had made it long ago
    assert clean(tmp_path, keep_bytes=0).kept == 0
    torch.testing.assert_close(log_probs(forward), log_probs(CausalForward(tuned())), atol=1e-6, rtol=1e-6)
    forward.warm(ROWS)
    assert len(trunks(tmp_path)) == 1


@pytest.fixture(scope="module")
def processes():
    """Importing takes seconds, so that it is done once for all processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fairtest.training.trunk", "transformers.models.llama.modeling_llama"])
    return context


def test_two_processes_compute_it_once(processes, tmp_path):
    log = tmp_path / "log"
    workers = [processes.Process(target=_warm, args=(str(tmp_path / "s"), "", str(log))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.read_text() == "4\n"


def test_a_killed_process_leaves_no_block(processes, tmp_path):
    started = tmp_path / "started"
    process = processes.Process(target=_warm, args=(str(tmp_path / "s"), str(started)))
    process.start()
    while not started.exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert trunks(tmp_path / "s") == []
    CausalForward(tuned(cache=TrunkCache(store=Store(tmp_path / "s")))).warm(ROWS)
    assert len(trunks(tmp_path / "s")) == 1
    assert list((tmp_path / "s" / "work").iterdir()) == []
