import dataclasses
import math
import subprocess
import sys

import pytest

from fairtest.errors import PrivacyError, PrivacyWarning
from fairtest.privacy import accountants, accounting
from fairtest.privacy.accounting import (
    PrivacyPlan,
    epsilon_of,
    membership_advantage,
    naive_cda_epsilon,
    pair_epsilon,
    plan_privacy,
    resolve_delta,
    warn_if_weak,
)
from fairtest.specs import DP

Q, STEPS, DELTA = 0.016, 188, 1.25e-4

GOLDEN = [
    (0.5, "rdp", 9.955),
    (0.5, "prv", 8.096),
    (0.5, "pld", 8.085),
    (1.0, "rdp", 1.423),
    (1.0, "prv", 1.115),
    (1.0, "pld", 1.105),
]


@pytest.mark.parametrize(("sigma", "accountant", "expected"), GOLDEN)
def test_epsilon_of_known_runs(sigma, accountant, expected):
    assert epsilon_of(sigma, Q, STEPS, DELTA, accountant) == pytest.approx(expected, abs=1e-3)


def test_one_full_batch_step_is_the_plain_gaussian_mechanism():
    # Balle and Wang 2018, theorem 8: delta(eps) = Phi(1/2s - eps s) - exp(eps) Phi(-1/2s - eps s).
    from scipy.stats import norm

    sigma = 1.3
    epsilon = epsilon_of(sigma, 1.0, 1, 1e-5)
    delta = norm.cdf(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * norm.cdf(-0.5 / sigma - epsilon * sigma)
    assert delta == pytest.approx(1e-5, rel=5e-3)


def test_noise_for_epsilon_3_is_the_known_one_and_the_reported_epsilon_stays_below():
    plan = plan_privacy(DP(epsilon=3.0, delta=DELTA), units=4000, batch_size=64, steps=STEPS)
    assert plan.noise_multiplier == pytest.approx(0.696, abs=1.5e-3)
    assert 2.95 < plan.epsilon <= 3.0
    assert plan.epsilon_prv == pytest.approx(3.0, abs=0.01)
    assert (plan.sample_rate, plan.delta, plan.target_epsilon) == (0.016, DELTA, 3.0)
    assert plan.accountant.startswith("PLD, dp-accounting ")
    assert PrivacyPlan.from_dict(plan.as_dict()) == plan


@pytest.mark.parametrize("target", [0.1, 12.0])
def test_small_and_large_budgets_are_met_and_used(target):
    plan = plan_privacy(DP(epsilon=target), units=500, batch_size=50, steps=20)
    assert 0.95 * target <= plan.epsilon <= target


def test_batches_of_every_unit_are_accounted_too():
    plan = plan_privacy(DP(epsilon=3.0), units=50, batch_size=50, steps=4)
    assert plan.sample_rate == 1
    assert 2.9 <= plan.epsilon <= 3.0
    assert plan.epsilon_prv is None


def test_more_steps_larger_batches_or_less_noise_cost_more_epsilon():
    few = epsilon_of(1.0, 0.04, 20, 1e-4, "prv")
    assert epsilon_of(1.0, 0.04, 60, 1e-4, "prv") > few
    assert epsilon_of(1.0, 0.12, 20, 1e-4, "prv") > few
    assert epsilon_of(0.8, 0.04, 20, 1e-4, "prv") > few


def test_no_noise_is_no_privacy():
    plan = plan_privacy(DP(epsilon=None, noise_multiplier=0.0), units=100, batch_size=10, steps=10)
    assert plan.epsilon == math.inf
    assert plan.target_epsilon is None
    assert plan.as_dict()["epsilon"] is None
    assert PrivacyPlan.from_dict(plan.as_dict()) == plan
    assert naive_cda_epsilon(0.0, 0.1, 10, 1e-3) == math.inf


def test_a_named_noise_reports_its_epsilon_and_next_to_no_noise_ends_quickly():
    plan = plan_privacy(DP(epsilon=None, noise_multiplier=1.0, delta=DELTA), units=4000, batch_size=64, steps=STEPS)
    assert plan.epsilon == pytest.approx(1.105, abs=1e-3)
    with pytest.warns(PrivacyWarning, match="hardly protects"):
        weak = plan_privacy(DP(epsilon=None, noise_multiplier=0.01), units=100, batch_size=10, steps=10)
    assert weak.epsilon > 1000
    assert weak.accountant.startswith("RDP")


def test_delta_is_a_tenth_of_one_in_n_and_never_one_in_n():
    assert resolve_delta(DP(), 4000) == pytest.approx(2.5e-5)
    with pytest.raises(PrivacyError) as caught:
        plan_privacy(DP(delta=0.01), units=100, batch_size=10, steps=10)
    assert str(caught.value) == (
        "delta 0.01 is not below 1/N = 0.01 of the 100 training units\n"
        "  where: DP(delta=)\n"
        '  do:    give delta="auto" (here 0.001) or a smaller number'
    )


def test_a_batch_larger_than_the_corpus_is_refused():
    with pytest.raises(PrivacyError, match="a batch of 64 units cannot be sampled from 50"):
        plan_privacy(DP(), units=50, batch_size=64, steps=10)


def test_an_epsilon_out_of_reach_is_refused():
    with pytest.raises(PrivacyError, match=r"epsilon 1e-05 cannot be met") as caught:
        plan_privacy(DP(epsilon=1e-5, delta=1e-9), units=50, batch_size=50, steps=50)
    assert "more training units" in caught.value.fix


def test_prv_refuses_batches_of_every_unit():
    with pytest.raises(PrivacyError, match="has no answer"):
        epsilon_of(1.0, 1.0, 10, 1e-5, "prv")


def test_importing_the_accounting_is_free():
    program = (
        "import sys, fairtest.privacy.accounting, fairtest.privacy.checks, fairtest.privacy.sampler\n"
        "heavy = {'torch', 'opacus', 'dp_accounting', 'numpy', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("steps", [10**6 + 1, 10**9])
def test_more_steps_than_can_be_accounted_for_are_refused(steps):
    for ask in (
        lambda: plan_privacy(DP(), units=4000, batch_size=64, steps=steps),
        lambda: epsilon_of(1.0, Q, steps, DELTA),
        lambda: naive_cda_epsilon(1.0, Q, steps, DELTA),
    ):
        with pytest.raises(PrivacyError, match=f"{steps} steps are more than can be accounted for"):
            ask()


def test_many_steps_are_planned_on_a_grid_that_memory_holds(monkeypatch):
    monkeypatch.setattr(accountants, "_PRV_GRID", 1 << 17)
    plan = plan_privacy(DP(epsilon=3.0), units=100_000, batch_size=50, steps=10**5)
    assert 2.7 < plan.epsilon <= 3.0


def test_a_tiny_epsilon_is_refused_without_gigabytes():
    with pytest.raises(PrivacyError, match=r"epsilon 0\.0001 cannot be met"):
        plan_privacy(DP(epsilon=1e-4), units=4000, batch_size=64, steps=STEPS)


@pytest.mark.parametrize(("target", "steps", "units"), [(3.0, 188, 4000), (0.3, 60, 500)])
def test_the_start_of_the_search_does_not_change_the_noise(target, steps, units, monkeypatch):
    found = plan_privacy(DP(epsilon=target), units=units, batch_size=50, steps=steps)
    monkeypatch.setattr(accounting, "_first_guess", lambda *_: 1.0)
    assert plan_privacy(DP(epsilon=target), units=units, batch_size=50, steps=steps) == found


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 7 TiB"), OverflowError("too large")])
def test_an_accountant_without_memory_says_what_to_change(error, monkeypatch):
    from dp_accounting.pld import PLDAccountant

    def compose(*_):
        raise error

    monkeypatch.setattr(PLDAccountant, "compose", compose)
    with pytest.raises(PrivacyError, match=f"epsilon cannot be computed.*{error}") as caught:
        epsilon_of(1.0, Q, STEPS, DELTA)
    assert "fewer steps" in caught.value.fix


def test_a_person_behind_two_units_spends_the_epsilon_of_independent_copies():
    plan = plan_privacy(DP(epsilon=None, noise_multiplier=1.0, delta=DELTA), units=4000, batch_size=64, steps=STEPS)
    assert pair_epsilon(plan) == naive_cda_epsilon(1.0, Q, STEPS, DELTA)
    assert pair_epsilon(plan) > 1.5 * plan.epsilon
    assert pair_epsilon(dataclasses.replace(plan, epsilon=math.inf, noise_multiplier=0.0)) == math.inf


def test_an_epsilon_above_20_is_warned_of_where_the_user_asked_for_it():
    with pytest.warns(PrivacyWarning) as caught:
        plan = plan_privacy(DP(epsilon=25.0), units=200, batch_size=20, steps=10)
    (warning,) = caught
    assert 20 < plan.epsilon <= 25
    assert str(warning.message) == (
        f"epsilon {plan.epsilon:.4g} is above 20 and hardly protects: it lets an attacker tell units that were trained"
        " on from others with an advantage of (e^eps - 1 + 2 delta) / (e^eps + 1) ="
        f" 1 - {2 * (1 - plan.delta) / (math.exp(plan.epsilon) + 1):.1e}, where 1 is certainty"
    )
    assert warning.filename == __file__


@pytest.mark.parametrize("epsilon", [0.1, 20.0, math.inf])
def test_20_and_less_and_no_claim_at_all_are_not_warned_of(epsilon):
    warn_if_weak(epsilon, 1e-5)  # a warning is an error here


def test_the_largest_advantage_of_a_membership_attack():
    assert membership_advantage(0.0, 0.0) == 0
    assert membership_advantage(0.0, 0.01) == pytest.approx(0.01)
    assert membership_advantage(3.0, 1e-5) == pytest.approx((math.exp(3) - 1 + 2e-5) / (math.exp(3) + 1))
    assert membership_advantage(math.inf, 1e-5) == 1


def test_pytest_shows_the_warning_at_the_line_of_the_test(pytester):
    pytester.makepyfile(
        test_weak="""
        from fairtest.privacy.accounting import warn_if_weak

        def test_it():
            warn_if_weak(30.0, 1e-5)
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider", "-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*test_weak.py:4: PrivacyWarning: epsilon 30 is above 20 and hardly protects: *"])
    strict = pytester.runpytest("-p", "no:cacheprovider", "-W", "error")
    strict.assert_outcomes(failed=1)
