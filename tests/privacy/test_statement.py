import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import PrivacyError
from fairtest.privacy.accounting import PrivacyPlan
from fairtest.privacy.statement import (
    NOISE_RELEASE,
    NOISE_SEEDED,
    NOT_COVERED,
    NOT_STATED,
    PrivacyStatement,
    statement_of,
)

PLAN = PrivacyPlan(
    units=4000,
    batch_size=64,
    sample_rate=0.016,
    steps=188,
    noise_multiplier=0.696,
    delta=1.25e-4,
    epsilon=2.99,
    epsilon_prv=3.0,
    target_epsilon=3.0,
    accountant="PLD, dp-accounting 0.6.0",
)
GOOD = statement_of(PLAN, max_grad_norm=1.0, unit="record", max_views_per_unit=2)
FULL = statement_of(
    PLAN,
    max_grad_norm=0.25,
    max_grad_norm_chosen="fixed before training",
    unit="user",
    max_views_per_unit=6,
    max_records_per_unit=3,
    records_left_out=17,
    repeated_units=2,
    epsilon_of_two=6.08,
    optimizer="adamw",
    clipping="fairtest",
    noise_generator=NOISE_RELEASE,
    repeatable=False,
)
RATES = st.floats(1e-9, 1, exclude_max=True)
POSITIVE = st.floats(1e-9, 1e9)
STATEMENTS = st.builds(
    PrivacyStatement,
    unit=st.text(min_size=1),
    epsilon=POSITIVE | st.just(math.inf),
    epsilon_prv=st.none() | POSITIVE,
    delta=RATES,
    units=st.integers(5, 10**9),
    batch_size=st.integers(1, 10**6),
    sample_rate=RATES,
    steps=st.integers(1, 10**6),
    noise_multiplier=st.just(0.0) | POSITIVE,
    max_grad_norm=POSITIVE,
    max_grad_norm_chosen=st.text(),
    accountant=st.text(),
    neighbouring=st.text(),
    sampler_declared=st.text(),
    sampler_actual=st.text(),
    max_views_per_unit=st.integers(1, 99),
    views_handling=st.text(),
    max_records_per_unit=st.none() | st.integers(1, 99),
    records_left_out=st.integers(0, 99),
    repeated_units=st.integers(0, 5),
    epsilon_of_two=st.none() | POSITIVE,
    optimizer=st.text(),
    clipping=st.text(),
    noise_generator=st.text(),
    repeatable=st.booleans(),
    released=st.text(),
    not_covered=st.lists(st.text()).map(tuple),
)


def but(**changes):
    return dataclasses.replace(GOOD, **changes)


def test_a_statement_survives_json_also_without_a_finite_epsilon():
    for statement in (GOOD, but(epsilon=math.inf, noise_multiplier=0.0)):
        text = json.dumps(statement.as_dict(), allow_nan=False)
        assert PrivacyStatement.from_dict(json.loads(text)) == statement


def test_a_statement_with_missing_or_unknown_fields_is_refused():
    data = GOOD.as_dict()
    del data["units"]
    data["eps"] = 3
    with pytest.raises(PrivacyError) as caught:
        PrivacyStatement.from_dict(data, where="privacy.json")
    assert caught.value.what == "a privacy statement lacks units and has unknown fields eps"
    assert caught.value.where == "privacy.json"


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon", "3"), ("units", 40.5), ("units", True), ("repeatable", 1), ("unit", None), ("not_covered", "all")],
)
def test_a_field_of_another_type_is_refused(field, value):
    with pytest.raises(PrivacyError, match=f"field {field} of a privacy statement is"):
        PrivacyStatement.from_dict({**GOOD.as_dict(), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epsilon", -1.0),
        ("epsilon", math.nan),
        ("delta", 0.0),
        ("delta", 1.0),
        ("sample_rate", 1.5),
        ("units", 0),
        ("epsilon_prv", math.nan),
        ("epsilon_prv", -1.0),
        ("max_records_per_unit", 0),
        ("records_left_out", -1),
        ("max_grad_norm", 0.0),
        ("noise_multiplier", math.inf),
        ("steps", 0),
        ("batch_size", 0),
        ("unit", ""),
        ("max_views_per_unit", 0),
        ("repeated_units", 4001),
    ],
)
def test_numbers_no_mechanism_can_have_are_refused(field, value):
    with pytest.raises(PrivacyError, match=f"{field} cannot be"):
        but(**{field: value})


def test_the_prose_is_what_a_reviewer_signs():
    assert FULL.prose() == (
        "Training gives epsilon = 2.99 at delta = 0.000125 (0.5 times 1/N, N = 4000) of differential privacy."
        " Neighbouring corpora: add or remove one unit; the unit is one user. Each unit contributes up to 6 texts"
        " (counterfactuals included), whose gradients are clipped together, once, from at most 3 records (17 records"
        " above that cap left out). Mechanism: 188 steps, in each of which a unit is in the batch with probability q ="
        " 0.016 (64 of 4000 units are expected; sampler poisson, accounted as poisson), its gradient is clipped to the"
        " L2 norm C = 0.25 (fixed before training), and Gaussian noise of sigma = 0.696 times C is added to the sum."
        " Clipping engine: fairtest. Optimizer: adamw. Accountant: PLD, dp-accounting 0.6.0; the PRV accountant gives"
        " 3. Noise: torch Mersenne twister, state drawn from the operating system's entropy (not a cryptographic"
        f" generator). Released: the trained weights after the last step. Not covered: {'; '.join(NOT_COVERED)}."
        " 2 of 4000 units have the text of another unit: where they come from one person, this epsilon is not that"
        " person's (name the person's column as the unit); for a person behind two of them epsilon is 6.08 at the same"
        " delta."
    )


def test_the_prose_says_what_is_not_stated_and_where_there_is_no_privacy():
    prose = GOOD.prose()
    assert "how C was chosen is not stated" in prose
    assert "Optimizer: not stated" in prose
    assert "records" not in prose.partition("Mechanism")[0]
    none = but(epsilon=math.inf, noise_multiplier=0.0, epsilon_prv=None).prose()
    assert none.startswith("Training gives no finite epsilon at delta = 0.000125")
    assert "PRV" not in none
    assert "it is not differentially private" in none
    one = dataclasses.replace(FULL, max_views_per_unit=1, max_records_per_unit=1, records_left_out=1).prose()
    assert "Each unit contributes one text, from one record (1 record above that cap left out)." in one


@given(STATEMENTS)
def test_each_number_of_a_statement_is_in_its_prose(statement):
    prose = statement.prose()
    for shown in (
        f"{statement.delta:.3g}",
        f"N = {statement.units})",
        f"q = {statement.sample_rate:.4g}",
        f"{statement.batch_size} of",
        f"{statement.steps} steps",
        f"sigma = {statement.noise_multiplier:.4g}",
        f"C = {statement.max_grad_norm:.4g}",
        *((f"PRV accountant gives {statement.epsilon_prv:.3g}",) if statement.epsilon_prv is not None else ()),
        *(value for value in dataclasses.asdict(statement).values() if isinstance(value, str)),
        *statement.not_covered,
    ):
        if shown not in (NOT_STATED, statement.views_handling):
            assert shown in prose


def test_the_summary_is_one_line():
    assert FULL.summary() == (
        "epsilon 2.99 at delta 0.000125 (0.5/N), per user: N 4000, q 0.016, 188 steps, sigma 0.696, C 0.25, PLD,"
        " dp-accounting 0.6.0"
    )
    assert GOOD.summary().endswith("; not for release")
    assert but(epsilon=math.inf).summary().startswith("no finite epsilon")


@given(STATEMENTS)
def test_a_statement_survives_json(statement):
    text = json.dumps({**statement.as_dict(), "prose": statement.prose()}, allow_nan=False)
    assert PrivacyStatement.from_dict(json.loads(text)) == statement


def test_a_statement_from_before_a_field_was_there_is_read():
    new = ("epsilon_prv", "max_grad_norm_chosen", "max_records_per_unit", "records_left_out", "optimizer", "clipping")
    older = {name: value for name, value in FULL.as_dict().items() if name not in new}
    read = PrivacyStatement.from_dict(older)
    assert (read.epsilon_prv, read.max_records_per_unit, read.records_left_out) == (None, None, 0)
    assert (read.max_grad_norm_chosen, read.optimizer, read.clipping) == (NOT_STATED,) * 3
    assert (read.epsilon, read.noise_generator) == (FULL.epsilon, NOISE_RELEASE)


def test_a_statement_is_one_file_with_its_prose_beside_the_numbers(tmp_path):
    path = tmp_path / "privacy.json"
    path.write_text("an older one")
    FULL.write(path)
    assert PrivacyStatement.read(path) == FULL
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["prose"] == FULL.prose()
    assert data["epsilon_prv"] == 3.0
    assert list(tmp_path.iterdir()) == [path]


def test_a_statement_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(PrivacyError, match="a privacy statement cannot be written: No such file"):
        FULL.write(tmp_path / "absent" / "privacy.json")
    (tmp_path / "taken").mkdir()
    with pytest.raises(PrivacyError, match="a privacy statement cannot be written: Is a directory"):
        FULL.write(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"unit": "record", ', "a privacy statement is not JSON: Expecting property name"),
        ('{"epsilon": Infinity}', "not JSON: Infinity is no JSON number"),
        ("[3.0, 1e-5]", "a privacy statement is a JSON object, and this is a list"),
        ('{"epsilon": 3.0}', "a privacy statement lacks unit, delta, units"),
        (b"\xff\xfe{}", "a privacy statement is not JSON"),
    ],
)
def test_a_file_that_is_no_statement_is_refused(text, problem, tmp_path):
    path = tmp_path / "privacy.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PrivacyError, match=problem) as caught:
        PrivacyStatement.read(path)
    assert caught.value.where == str(path)


def test_a_statement_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PrivacyError, match="a privacy statement cannot be read: No such file"):
        PrivacyStatement.read(tmp_path / "privacy.json")


def test_noise_is_stated_with_its_generator_and_never_as_cryptographic():
    assert NOISE_SEEDED == "torch Mersenne twister, state derived from the run's seed"
    assert NOISE_RELEASE.endswith("(not a cryptographic generator)")
    assert GOOD.noise_generator == NOISE_SEEDED
    assert statement_of(PLAN, max_grad_norm=1.0, unit="record", repeatable=False).noise_generator == NOISE_RELEASE


def test_only_repeatable_noise_is_not_for_release():
    assert "not for release" in GOOD.caveat()
    secret = but(repeatable=False, noise_generator=NOISE_RELEASE)
    assert secret.caveat() == ""
    assert "not for release" not in secret.prose()


def test_units_that_repeat_a_text_limit_the_claim():
    repeated = but(repeated_units=12)
    assert "12 of 4000 units have the text of another unit" in repeated.caveat()
    assert "not for release" in repeated.caveat()
    assert repeated.caveat()[1:] in repeated.prose()
    assert "another unit" not in GOOD.caveat()
    with pytest.raises(PrivacyError, match="repeated_units cannot be -1"):
        but(repeated_units=-1)


def test_arms_of_one_seed_share_their_noise_and_the_caveat_says_so():
    assert "arms of one seed share their noise" in GOOD.caveat()
    assert "share their noise" not in but(repeatable=False).caveat()


def test_the_epsilon_of_two_units_is_stated_where_units_repeat():
    said = "for a person behind two of them epsilon is 6.08 at the same delta"
    assert said in but(repeated_units=12, epsilon_of_two=6.08).prose()
    assert "behind two" not in but(repeated_units=12).prose()
    assert "behind two" not in but(epsilon_of_two=6.08).prose()


def test_the_epsilon_of_two_survives_json_and_an_infinite_one_is_not_known():
    stated = statement_of(PLAN, max_grad_norm=1.0, unit="record", repeated_units=3, epsilon_of_two=6.08)
    assert PrivacyStatement.from_dict(json.loads(json.dumps(stated.as_dict()))) == stated
    assert statement_of(PLAN, max_grad_norm=1.0, unit="record", epsilon_of_two=math.inf).epsilon_of_two is None
    older = GOOD.as_dict()
    del older["epsilon_of_two"]
    assert PrivacyStatement.from_dict(older) == GOOD
    with pytest.raises(PrivacyError, match="field epsilon_of_two of a privacy statement is '6'"):
        PrivacyStatement.from_dict({**older, "epsilon_of_two": "6"})
    for impossible in (-1.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="epsilon_of_two cannot be"):
            but(epsilon_of_two=impossible)
