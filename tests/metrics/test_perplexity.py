import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtest.errors import MetricError
from fairtest.metrics import perplexity, perplexity_by_group

texts = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 9), st.sampled_from("ab")), min_size=1)


def test_every_token_counts_the_same():
    assert perplexity([math.log(2) * 3, 0.0], [3, 1]) == pytest.approx(2**0.75)


def test_a_uniform_guess_has_the_size_of_the_vocabulary():
    assert perplexity([5 * math.log(40)], [5]) == pytest.approx(40)


@given(texts)
def test_a_group_is_the_perplexity_of_its_texts(rows):
    nll, tokens, groups = zip(*rows, strict=True)
    found = perplexity_by_group(nll, tokens, groups)
    assert list(found) == sorted(set(groups))
    for name, value in found.items():
        kept = [row for row in rows if row[2] == name]
        assert value == pytest.approx(math.exp(sum(r[0] for r in kept) / sum(r[1] for r in kept)))


@pytest.mark.parametrize(
    ("nll", "tokens", "what"),
    [
        ([1.0], [1, 2], "1 losses and 2 token counts"),
        ([], [], "no tokens"),
        ([0.0], [0], "no tokens"),
        ([1.0, float("nan")], [1, 1], "loss of text 1 is nan"),
        ([9000.0], [1], "diverged"),
    ],
)
def test_what_has_no_perplexity_is_an_error(nll, tokens, what):
    with pytest.raises(MetricError, match=what):
        perplexity(nll, tokens)


def test_groups_are_given_for_every_text():
    with pytest.raises(MetricError, match="differ in number"):
        perplexity_by_group([1.0], [1], [])
