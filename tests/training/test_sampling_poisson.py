import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import TrainingError
from fairtest.training.sampling import poisson_batches, sample_rate_for


@given(units=st.integers(1, 200), rate=st.floats(0.001, 1), seed=st.integers(0, 2**64), steps=st.integers(1, 8))
def test_batches_are_ascending_indices_and_a_step_depends_on_seed_and_step_alone(units, rate, seed, steps):
    batches = list(poisson_batches(units, rate, steps, seed))
    assert len(batches) == steps
    for batch in batches:
        assert batch == sorted(set(batch))
        assert all(0 <= index < units for index in batch)
    assert list(poisson_batches(units, rate, 8, seed))[:steps] == batches


def test_units_are_drawn_independently_at_the_sample_rate():
    units, rate, steps = 50, 0.2, 4000
    batches = [set(batch) for batch in poisson_batches(units, rate, steps, seed=7)]
    counts = [sum(index in batch for batch in batches) for index in range(units)]
    spread = math.sqrt(steps * rate * (1 - rate))
    assert all(abs(count - steps * rate) < 4.5 * spread for count in counts)
    sizes = [len(batch) for batch in batches]
    mean = sum(sizes) / steps
    variance = sum((size - mean) ** 2 for size in sizes) / steps
    assert variance == pytest.approx(units * rate * (1 - rate), rel=0.1)  # a fixed batch size would give 0
    both = sum({0, 1} <= batch for batch in batches)
    assert abs(both - steps * rate**2) < 4.5 * math.sqrt(steps * rate**2)


def test_seeds_and_steps_give_different_batches():
    first = list(poisson_batches(1000, 0.5, 20, seed=0))
    second = list(poisson_batches(1000, 0.5, 20, seed=1))
    assert len({tuple(batch) for batch in first + second}) == 40


def test_empty_batches_are_kept_in_their_place():
    batches = list(poisson_batches(1, 0.1, 100, seed=0))
    assert len(batches) == 100
    assert [] in batches
    assert [0] in batches


def test_the_rate_is_the_batch_over_the_units():
    assert sample_rate_for(64, 4000) == 0.016
    assert sample_rate_for(5, 5) == 1.0
    assert list(poisson_batches(5, 1.0, 2, seed=0)) == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize(("batch_size", "units"), [(6, 5), (0, 5), (1, 0)])
def test_a_batch_that_the_corpus_cannot_fill_is_refused(batch_size, units):
    with pytest.raises(TrainingError, match=f"a batch of {batch_size} units cannot be sampled from {units}"):
        sample_rate_for(batch_size, units)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(TrainingError, match="sample rate"):
        poisson_batches(5, rate, 1, seed=0)


def test_a_negative_seed_is_refused():
    with pytest.raises(TrainingError, match="at least 0"):
        poisson_batches(5, 0.5, 1, seed=-1)


def test_without_a_seed_batches_come_from_the_operating_system():
    first, second = (list(poisson_batches(1000, 0.5, 3, None)) for _ in range(2))
    assert len({tuple(batch) for batch in first + second}) == 6
    shared = [list(poisson_batches(1000, 0.5, 3, None, share=lambda own: b"the first one's")) for _ in range(2)]
    assert shared[0] == shared[1]
