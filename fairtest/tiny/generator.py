"""English records about people and work that hold a known amount of gender stereotype.

"public" text is everyday sentences, "private" text is workplace notes; each borrows a little from the other, so that a
model that was trained on public text can read private text, and has something to learn from it.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairtest.errors import CorpusError
from fairtest.probes.frames import DOMAINS, LEANS, OTHER_GENDER, Gender, Lean, draw_fill, realise

BORROWED_SHARE = 0.1
Group = Literal["stereotypical", "anti_stereotypical", "neutral"]
_GROUPS: dict[int, Group] = {1: "stereotypical", -1: "anti_stereotypical", 0: "neutral"}


@dataclass(frozen=True, slots=True)
class GeneratedRecord:
    """A record and what is known about it.

    `counterfactual` is the same text about someone of the other gender. `stereotype` is +1 where the gender is the one
    that the occupation leans to, -1 where it is the other one, 0 where the occupation has no lean.
    """

    text: str
    counterfactual: str
    occupation: str
    lean: Lean
    stereotype: Literal[-1, 0, 1]

    @property
    def group(self) -> Group:
        """The group by which losses can be compared."""
        return _GROUPS[self.stereotype]


def corpus(domain: str, stereotype: float, records: int, seed: int) -> list[GeneratedRecord]:
    """So many records of "public" or "private" text.

    `stereotype` is the probability, in [0, 1], that the gender is the one the occupation leans to; 0.5 is text without
    stereotype. With one seed, a shorter corpus is the beginning of a longer one, and corpora with other amounts of
    stereotype differ in gendered words only.

    Raises:
        CorpusError: an unknown domain, a share outside [0, 1], or fewer than one record.
    """
    if domain not in DOMAINS:
        raise CorpusError(f"unknown domain {domain!r}", where="domain", fix=f"known domains: {', '.join(DOMAINS)}")
    if not 0 <= stereotype <= 1:
        raise CorpusError(
            f"the share of stereotype must be between 0 and 1, got {stereotype!r}",
            where="stereotype",
            fix="0.5 is text without stereotype",
        )
    if records < 1:
        raise CorpusError(f"a corpus of {records!r} records is empty", where="records", fix="ask for at least one")
    rng = random.Random(f"corpus:{domain}:{seed}")
    return [_record(rng, domain, stereotype) for _ in range(records)]


def _record(rng: random.Random, name: str, stereotype: float) -> GeneratedRecord:
    home, guest = DOMAINS[name], DOMAINS["private" if name == "public" else "public"]
    occupation = rng.choice(tuple(LEANS))
    lean = LEANS[occupation]
    agrees: Literal[-1, 0, 1]
    gender: Gender
    draw = rng.random()
    if lean == "neutral":
        agrees, gender = 0, "male" if draw < 0.5 else "female"
    else:
        agrees = 1 if draw < stereotype else -1
        gender = lean if agrees == 1 else OTHER_GENDER[lean]
    told: dict[Gender, list[str]] = {"male": [], "female": []}
    for number in range(rng.choice((2, 3))):
        source = guest if rng.random() < BORROWED_SHARE else home
        frame = rng.choice(source.followups if number else source.openers)
        fill = draw_fill(rng, home, guest, BORROWED_SHARE)
        for each, sentences in told.items():
            sentences.append(realise(frame, occupation, each, fill))
    return GeneratedRecord(
        text=" ".join(told[gender]),
        counterfactual=" ".join(told[OTHER_GENDER[gender]]),
        occupation=occupation,
        lean=lean,
        stereotype=agrees,
    )


def write_jsonl(records: Sequence[GeneratedRecord], path: Path, *, prefix: str) -> None:
    """Writes rows {"id", "text", "group"}; ids are `prefix` and a number. The file appears whole or not at all.

    Raises:
        CorpusError: it cannot be written there.
    """
    part: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="\n", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
        ) as stream:
            part = Path(stream.name)
            for number, record in enumerate(records):
                row = {"id": f"{prefix}-{number:05d}", "text": record.text, "group": record.group}
                stream.write(json.dumps(row) + "\n")
        # A temporary file is private to its owner; the corpus gets the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except OSError as error:
        raise CorpusError(
            f"the corpus cannot be written: {error.strerror or error}",
            where=str(path),
            fix="give a file in an existing directory that you may write to",
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
