import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from fairtest.errors import PrivacyError
from fairtest.privacy import accountants
from fairtest.privacy.accountants import epsilon_of, group_epsilon, naive_cda_epsilon

COPIES = ("independent", "same_batch")
COARSE = 0.01


@pytest.fixture(scope="module")
def _coarse():
    """A grid on which an epsilon takes a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accountants, "_GROUP_GRID", COARSE)
        yield


def gaussian_epsilon(sigma, delta):
    """Balle and Wang 2018, theorem 8, for sensitivity 1."""

    def excess(epsilon):
        spent = norm.cdf(0.5 / sigma - epsilon * sigma)
        return spent - math.exp(epsilon + norm.logcdf(-0.5 / sigma - epsilon * sigma)) - delta

    return brentq(excess, 0, 200)


@pytest.mark.parametrize("copies", COPIES)
@pytest.mark.parametrize(("times", "sigma", "steps"), [(1, 2.0, 1), (3, 4.0, 5), (7, 8.0, 1)])
def test_units_that_are_in_each_batch_are_one_gaussian_of_their_number(copies, times, sigma, steps):
    found = group_epsilon(sigma, 1.0, steps, 1e-5, times=times, copies=copies)
    assert found == pytest.approx(gaussian_epsilon(sigma / (times * math.sqrt(steps)), 1e-5), rel=2e-3)


@pytest.mark.parametrize("copies", COPIES)
def test_one_unit_is_no_group(copies):
    alone = epsilon_of(0.9, 0.05, 30, 1e-4)
    assert group_epsilon(0.9, 0.05, 30, 1e-4, times=1, copies=copies) == pytest.approx(alone, rel=2e-3)


@pytest.mark.usefixtures("_coarse")
@settings(max_examples=10)
@given(sigma=st.floats(0.8, 4.0), rate=st.floats(0.01, 0.5), steps=st.integers(1, 5), times=st.integers(2, 5))
def test_the_bound_for_groups_of_any_mechanism_is_never_below_the_true_value(sigma, rate, steps, times):
    # Dwork and Roth 2014, theorem 2.2: (eps, delta) for one is (k eps, (1 + e^eps + ... + e^((k-1) eps)) delta) for k.
    # It holds for units that are drawn as the accountant was told, that is independently.
    alone = epsilon_of(sigma, rate, steps, 1e-6)
    delta = sum(math.exp(k * alone) for k in range(times)) * 1e-6
    if delta < 0.5:
        assert group_epsilon(sigma, rate, steps, delta, times=times) <= times * alone + COARSE * steps


@pytest.mark.usefixtures("_coarse")
@settings(max_examples=8)
@given(sigma=st.floats(0.8, 4.0), rate=st.floats(0.01, 1.0), steps=st.integers(1, 5), times=st.integers(1, 4))
def test_more_units_of_one_person_spend_more(sigma, rate, steps, times):
    def spent(units, copies):
        return group_epsilon(sigma, rate, steps, 1e-5, times=units, copies=copies)

    slack = COARSE * steps
    assert spent(times + 1, "independent") >= spent(times, "independent") - slack
    assert spent(times + 1, "same_batch") >= spent(times, "same_batch") - slack


@pytest.mark.usefixtures("_coarse")
def test_a_group_too_large_for_a_loss_distribution_gets_a_looser_bound_that_is_still_one():
    # 20 standard deviations are the widest shift of a loss distribution: 21 units at sigma 1 are beyond it.
    for copies in COPIES:
        exact = group_epsilon(1.0, 0.02, 2, 1e-5, times=20, copies=copies)
        bound = group_epsilon(1.0, 0.02, 2, 1e-5, times=21, copies=copies)
        assert exact < bound < math.inf
        assert group_epsilon(1.0, 0.02, 2, 1e-5, times=1000, copies=copies) > bound
    assert group_epsilon(0.01, 0.02, 2, 1e-5, times=2) < math.inf


def test_without_noise_there_is_no_epsilon():
    assert group_epsilon(0.0, 0.1, 10, 1e-3, times=3) == math.inf


@pytest.mark.parametrize("times", [0, -1, 1.5, True])
def test_a_person_is_behind_a_whole_number_of_units(times):
    with pytest.raises(PrivacyError, match="a person is behind a whole number of units, at least 1, got") as caught:
        group_epsilon(1.0, 0.1, 10, 1e-3, times=times)
    assert caught.value.where == "group_epsilon(times=)"


def test_a_counterfactual_of_its_own_is_a_group_of_two():
    for copies in COPIES:
        assert naive_cda_epsilon(1.0, 0.1, 5, 1e-4, copies=copies) == group_epsilon(1.0, 0.1, 5, 1e-4, copies=copies)


def test_copies_that_enter_apart_follow_the_binomial_mixture():
    # One step, by integration over the output: P = N(0, s), Q = sum_k Binomial(3, q)(k) N(k, s).
    import numpy as np

    sigma, rate, times, delta = 1.5, 0.3, 3, 1e-3
    x = np.linspace(-25, 30, 400_001)
    none = norm.pdf(x, 0, sigma)
    some = sum(
        math.comb(times, k) * rate**k * (1 - rate) ** (times - k) * norm.pdf(x, k, sigma) for k in range(times + 1)
    )
    width = x[1] - x[0]

    def hockey_stick(epsilon):
        removed = np.maximum(some - math.exp(epsilon) * none, 0).sum() * width
        added = np.maximum(none - math.exp(epsilon) * some, 0).sum() * width
        return max(removed, added) - delta

    assert group_epsilon(sigma, rate, 1, delta, times=times) == pytest.approx(brentq(hockey_stick, 0.01, 20), abs=2e-3)
