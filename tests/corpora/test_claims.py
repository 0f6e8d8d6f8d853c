"""An arm may claim no other privacy unit, and sample no larger batch, than its corpus has."""

from __future__ import annotations

import pytest

from fairtest.corpora.claims import require_batch, require_unit
from fairtest.corpora.readers import read_corpus
from fairtest.errors import PrivacyError, SpecError
from fairtest.specs import DP, Training

ROWS = [{"text": f"text {number}", "author": number % 3} for number in range(12)]
BY_RECORD = read_corpus(ROWS, name="reviews")
BY_COLUMN = read_corpus(ROWS, unit_field="author", name="reviews")
BY_USER = read_corpus(ROWS, unit_field="author", unit="user", name="reviews")
BY_DOCUMENT = read_corpus(ROWS, unit="document", name="reviews")


@pytest.mark.parametrize(
    ("corpus", "unit"),
    [(BY_RECORD, None), (BY_COLUMN, None), (BY_RECORD, "record"), (BY_USER, "user"), (BY_DOCUMENT, "document")],
)
def test_a_claim_about_what_the_corpus_is_grouped_by_stands(corpus, unit):
    require_unit(corpus, DP(unit=unit), where="arm 'dp'")
    require_unit(corpus, None, where="arm 'baseline'")


@pytest.mark.parametrize(
    ("corpus", "unit", "fix"),
    [
        (BY_RECORD, "user", 'set unit = "user" and unit_field to the column with the person\'s identifier'),
        (BY_DOCUMENT, "user", 'set unit = "user" and unit_field to the column with the person\'s identifier'),
        (BY_USER, "document", 'set unit = "document" and unit_field to the column with the document\'s identifier'),
        (BY_COLUMN, "user", "set unit = \"user\", if 'author' names one; else also unit_field to the person's column"),
        (BY_USER, "record", "leave unit_field out, so that each record is a unit"),
    ],
)
def test_a_claim_about_another_unit_is_refused(corpus, unit, fix):
    with pytest.raises(PrivacyError) as caught:
        require_unit(corpus, DP(unit=unit), where="arm 'dp'")
    assert str(caught.value) == (
        f"privacy is claimed for a {unit}, and corpus 'reviews' is grouped by {corpus.unit_name}\n"
        f"  where: arm 'dp', DP(unit='{unit}')\n"
        f"  do:    {fix}; or claim no more than that: DP(unit=None)"
    )


def test_a_batch_is_counted_in_units_and_not_in_records():
    require_batch(BY_USER, Training(batch_size=3), where="arm 'dp'")
    require_batch(BY_RECORD, Training(batch_size=12), where="arm 'dp'")
    with pytest.raises(SpecError) as caught:
        require_batch(BY_USER, Training(batch_size=4), where="arm 'dp'")
    assert str(caught.value) == (
        "a batch of 4 units cannot be sampled from corpus 'reviews': it has 3 units to train on, each a user (with 12"
        " records)\n"
        "  where: arm 'dp', Training(batch_size=4)\n"
        "  do:    give a batch_size of at most 3, or a larger corpus"
    )
    with pytest.raises(SpecError, match="it has 12 units to train on, each a record\n"):
        require_batch(BY_RECORD, Training(batch_size=13), where="arm 'dp'")
