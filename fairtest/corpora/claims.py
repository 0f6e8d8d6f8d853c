"""What an arm asks of the corpus it is trained on; asked before time is spent."""

from __future__ import annotations

from fairtest.corpora.units import Corpus
from fairtest.errors import PrivacyError, SpecError
from fairtest.specs import DP, Training


def require_unit(corpus: Corpus, dp: DP | None, *, where: str) -> None:
    """Refuses a claim about another privacy unit than the corpus is grouped by. Without `dp.unit` there is none.

    Raises:
        PrivacyError: the claim and the corpus differ.
    """
    if dp is None or dp.unit is None or dp.unit == corpus.unit_name:
        return
    column = "the person's" if dp.unit == "user" else f"the {dp.unit}'s"
    if dp.unit == "record":
        fix = "leave unit_field out, so that each record is a unit"
    elif corpus.unit_name in ("record", "document", "user"):
        fix = f'set unit = "{dp.unit}" and unit_field to the column with {column} identifier'
    else:
        fix = f'set unit = "{dp.unit}", if {corpus.unit_name!r} names one; else also unit_field to {column} column'
    raise PrivacyError(
        f"privacy is claimed for a {dp.unit}, and corpus {corpus.name!r} is grouped by {corpus.unit_name}",
        where=f"{where}, DP(unit={dp.unit!r})",
        fix=f"{fix}; or claim no more than that: DP(unit=None)",
    )


def require_batch(corpus: Corpus, training: Training, *, where: str) -> None:
    """Refuses an expected batch of more units than there are to train on.

    Raises:
        SpecError: the batch is larger than the corpus.
    """
    units, unit = len(corpus), corpus.unit_name
    if training.batch_size <= units:
        return
    records = "" if corpus.record_count == units else f" (with {corpus.record_count} records)"
    raise SpecError(
        f"a batch of {training.batch_size} units cannot be sampled from corpus {corpus.name!r}: it has {units} units"
        f" to train on, each a {unit}{records}",
        where=f"{where}, Training(batch_size={training.batch_size})",
        fix=f"give a batch_size of at most {units}, or a larger corpus",
    )
