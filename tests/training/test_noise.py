"""Noise for the clipped sum: normal, independent, the same for any number of threads, and never the same twice."""

import hashlib

import pytest
import torch
from scipy import stats

from fairtest.errors import TrainingError
from fairtest.training import noise as module
from fairtest.training.noise import GaussianNoise, generator_of


def drawn(shapes, *, seed=0, step=0, std=1.0, divide_by=1.0, noise=None):
    tensors = [torch.zeros(shape) for shape in shapes]
    (noise or GaussianNoise(seed)).add(tensors, std, step, divide_by)
    return tensors


def test_it_is_normal_with_the_stated_deviation():
    (values,) = drawn([400_000], std=2.5, divide_by=5.0)
    assert stats.kstest(values.numpy() / 0.5, "norm").pvalue > 1e-3
    assert float(values.var()) == pytest.approx(0.25, rel=0.02)


def test_what_is_there_is_kept_and_divided():
    tensor = torch.full((1000, 3), 40.0)
    GaussianNoise(0).add([tensor], 1.0, 0, 8.0)
    assert float(tensor.mean()) == pytest.approx(5.0, abs=0.02)
    still = torch.full((7,), 40.0)
    GaussianNoise(0).add([still], 0.0, 0, 8.0)
    assert torch.equal(still, torch.full((7,), 5.0))


def test_steps_tensors_stripes_and_seeds_are_independent(monkeypatch):
    monkeypatch.setattr(module, "STRIPE", 1 << 14)
    pieces = [part for seed in (0, 1) for step in (0, 1) for part in drawn([1 << 15, 1 << 15], seed=seed, step=step)]
    stripes = torch.stack([half for piece in pieces for half in piece.chunk(2)])
    correlation = torch.corrcoef(stripes) - torch.eye(len(stripes))
    assert float(correlation.abs().max()) < 5 / (1 << 7)
    assert len({float(stripe[0]) for stripe in stripes}) == len(stripes)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads):
    before = torch.get_num_threads()
    shapes = [(600, 700), (3,), (module.STRIPE + 17,)]
    expected = drawn(shapes, seed=4)
    try:
        torch.set_num_threads(threads)
        found = drawn(shapes, seed=4)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_two_seeds_that_torch_would_take_for_one_give_different_noise():
    plain = [torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5 + 2**32)]
    assert torch.equal(*plain)  # what this module is for: torch keeps 32 bits of a seed
    ours = [drawn([4], seed=seed)[0] for seed in (5, 5 + 2**32)]
    assert not torch.equal(*ours)


def test_a_generators_whole_state_follows_from_its_key():
    words = torch.frombuffer(bytearray(hashlib.shake_256(b"key").digest(4 * 624)), dtype=torch.uint32)
    state = generator_of(b"key").get_state().view(torch.int64)
    assert state[3:627].tolist() == words.tolist()
    first = torch.rand(2000, generator=generator_of(b"key"))
    assert torch.equal(first, torch.rand(2000, generator=generator_of(b"key")))
    assert not torch.equal(first, torch.rand(2000, generator=generator_of(b"kez")))
    assert stats.kstest(first.numpy(), "uniform").pvalue > 1e-3


def test_without_a_seed_it_comes_from_the_operating_system_and_is_shared_among_processes():
    noise = GaussianNoise(None)
    assert not noise.repeatable
    assert not torch.equal(drawn([8], noise=noise)[0], drawn([8], noise=noise)[0])
    asked = []

    def share(own):
        asked.append(own)
        return b"of the first process"

    first, second = (drawn([8], noise=GaussianNoise(None, share))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert len(set(asked)) == 2
    assert {len(own) for own in asked} == {32}


def test_tensors_that_are_no_plain_array_get_noise_of_their_own():
    wide = torch.zeros(300, 400).t()
    GaussianNoise(0).add([wide], 3.0, 0)
    assert float(wide.std()) == pytest.approx(3.0, rel=0.02)


def test_a_state_of_another_form_is_an_error(monkeypatch):
    class Other:
        def manual_seed(self, _):
            return self

        def get_state(self):
            return torch.zeros(5056, dtype=torch.uint8)

    module._fresh_state.cache_clear()
    monkeypatch.setattr(torch, "Generator", Other)
    with pytest.raises(TrainingError, match="in a form that is not known here"):
        generator_of(b"key")
    module._fresh_state.cache_clear()
