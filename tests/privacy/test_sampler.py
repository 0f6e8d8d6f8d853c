import pytest
import torch
from opacus.data_loader import DPDataLoader
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from transformers.trainer_pt_utils import DistributedLengthGroupedSampler, LengthGroupedSampler

from fairtest.errors import PrivacyError
from fairtest.privacy.sampler import sampler_actual_of

DATA = TensorDataset(torch.arange(20.0))


class EveryOther(RandomSampler):
    def __iter__(self):
        return iter(list(super().__iter__())[::2])


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(10))


@pytest.mark.parametrize(
    ("drawn", "name"),
    [
        (UniformWithReplacementSampler(num_samples=20, sample_rate=0.2), "poisson"),
        (DPDataLoader(DATA, sample_rate=0.2), "poisson"),
        (DataLoader(DATA, batch_sampler=UniformWithReplacementSampler(num_samples=20, sample_rate=0.2)), "poisson"),
        (DataLoader(DATA, batch_size=4, shuffle=True), "shuffle"),
        (DataLoader(DATA, batch_size=4), "sequential"),
        (DataLoader(DATA, batch_size=None, shuffle=False), "sequential"),
        (DataLoader(DATA, batch_size=4, sampler=RandomSampler(DATA, replacement=True)), "shuffle with replacement"),
        (RandomSampler(DATA), "shuffle"),
        (SubsetRandomSampler(range(5)), "shuffle"),
        (BatchSampler(RandomSampler(DATA), 4, drop_last=True), "shuffle"),
        (BatchSampler(SequentialSampler(DATA), 4, drop_last=False), "sequential"),
        (DistributedSampler(DATA, num_replicas=2, rank=0, shuffle=True), "shuffle"),
        (DistributedSampler(DATA, num_replicas=2, rank=0, shuffle=False), "sequential"),
    ],
)
def test_how_a_loader_draws_is_named(drawn, name):
    assert sampler_actual_of(drawn) == name


@pytest.mark.parametrize("drawn", [EveryOther(DATA), DataLoader(DATA, batch_size=4, sampler=EveryOther(DATA))])
def test_a_sampler_of_ones_own_is_called_by_its_class_whatever_it_is_made_from(drawn):
    assert sampler_actual_of(drawn).endswith("test_sampler.EveryOther")


def test_a_stream_has_no_known_sampling():
    assert "Sampler" in sampler_actual_of(DataLoader(Endless(), batch_size=2))


LENGTHS = list(range(1, 21))


@pytest.mark.parametrize(
    ("sampler", "why"),
    [
        (WeightedRandomSampler([1.0] * 20, 20), "draws a unit the more often the larger its weight is"),
        (LengthGroupedSampler(4, lengths=LENGTHS), "puts units of like length into one batch"),
        (
            DistributedLengthGroupedSampler(4, num_replicas=2, rank=0, lengths=LENGTHS),
            "puts units of like length into one batch",
        ),
        (type("Mine", (WeightedRandomSampler,), {})([1.0] * 20, 20), "Mine draws a unit the more often"),
    ],
)
def test_samplers_that_give_units_chances_of_their_own_are_refused(sampler, why):
    for drawn in (sampler, BatchSampler(sampler, 4, drop_last=False), DataLoader(DATA, batch_size=4, sampler=sampler)):
        with pytest.raises(PrivacyError, match=why) as caught:
            sampler_actual_of(drawn)
        assert "a unit's chance to be in a batch is not one q" in caught.value.what
        assert "Poisson" in caught.value.fix


@pytest.mark.parametrize("nothing", [None, 3, "shuffle", DATA])
def test_what_draws_nothing_is_refused(nothing):
    with pytest.raises(PrivacyError, match="is neither a DataLoader nor a sampler"):
        sampler_actual_of(nothing)
