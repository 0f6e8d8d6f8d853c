"""Which units a share of an augmented corpus is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fairtest.digests import digest_of
from fairtest.specs import CDA

NOT_CHOSEN = "not among the share that is augmented"


def chosen(cda: CDA, texts: Sequence[str], name: str | None = None) -> bool:
    """Whether a unit, of these texts, is among the share of units that is augmented.

    A hash of `cda.seed` and the unit's name decides, or of its texts where units have no names (None). So the choice
    is the same in any order, process and arm, no unit's coming or going moves another one, and the units of a smaller
    fraction are among those of a larger one.
    """
    if cda.fraction == 1.0:
        return True
    drawn = digest_of(["cda-fraction", cda.seed, digest_of(list(texts)) if name is None else name])
    return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:8], "big") / 2**64 < cda.fraction
