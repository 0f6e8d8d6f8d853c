"""Counterfactual data augmentation for gender: how right, how fast, how much memory; and other libraries beside it.

    python benchmarks/cda.py                 the whole table (some five minutes on one core)
    python benchmarks/cda.py --quick         all pairs but little text, to see that it works (within a minute)
    python benchmarks/cda.py --misses        also each sentence that fairtest gets wrong, by what went wrong
    python benchmarks/cda.py --json FILE     the rows as JSON too

Compared with: a dictionary swap (one regular expression of the words of fairtest's own list), the same by looking up
each word, that with the published pairs of GN-GloVe, fairlangproc's CDA with the pairs that it ships and with the
dictionary's, and langfair's CounterfactualGenerator. The two libraries are optional, never needed by fairtest:
requirements-cda.txt says how to install them. The data sets are read from FAIRTEST_DATA_DIR (../shared/data); what is
absent is said in its rows.

How to read it. "exact": the method made of the sentence, letter for letter, what it is to become, in n sentences;
"any case": the same, but capitals are not looked at. LangFair makes no swap but a masculine and a feminine text of
each, in lower case: either may be the expected one. Speed is of one core on paragraphs, in MB of UTF-8 text a second:
on those without "her", "hers", "his", on those with one of them, and on all. The reference, ratio 1, is the dictionary
swap in the same rounds, and a ratio is time over its time: 0.5 is twice as fast. Python's regular expressions try one
word after the other, so looking up each word is far faster, and both are shown. A slow method stops at --cap seconds
a round, and its row says how much of the (shuffled) text it did.

Memory is the largest resident size of `fairtest cda apply` on a generated corpus, ratio 1, and on one a hundred times
as long: text so dense with gender words that its seconds say nothing of other text. "datasets map" is augment_dataset
on four copies of all paragraphs in one process, ratio 1, and in two, starting them included.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything that reads it is imported

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _cda_exact import exact_rows, print_misses
from _cda_methods import DICTIONARY, FAIRTEST, METHODS, dictionary_words, made
from _cda_pairs import data_dir, pair_sets
from _cda_rows import Row, machine, print_table, progress, write_json
from _cda_speed import corpora, speed_rows
from _cda_stream import memory_rows, process_rows

COPIES = 4  # of all paragraphs, so that starting a process is not most of its time
PARTS = ("exact", "speed", "memory", "processes")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rounds = options.rounds or (1 if options.quick else 3)
    cap = 1.0 if options.quick else options.cap
    chosen = [name for name in METHODS if name in {*(options.methods or METHODS), DICTIONARY}]
    progress("loading methods")
    methods = {name: made(name) for name in chosen}
    sets = pair_sets(dictionary_words()) if "exact" in options.parts or options.misses else []
    texts = corpora(data_dir(), quick=options.quick) if {"speed", "processes"} & {*options.parts} else []
    rows: list[Row] = []
    for part in options.parts:
        progress(part)
        if part == "exact":
            rows += exact_rows(sets, methods)
        elif part == "speed":
            rows += speed_rows(texts, methods, rounds, cap)
        elif part == "memory":
            rows += memory_rows(quick=options.quick)
        else:
            records = [record for _, records in texts for record in records]
            rows += process_rows(records if options.quick else records * COPIES, rounds)
        if options.json:  # after each part: a long run that is stopped keeps what it has
            write_json(rows, options.json)
    settings = f"rounds in turns: {rounds}; ratio: median (smallest-largest) of time over that of the {DICTIONARY}"
    notes = [note for pairs in sets for note in pairs.notes]
    print_table(rows, ["Gender counterfactuals: exact matches, speed, memory", machine(), settings, *notes, ""])
    if options.misses:
        method = made(options.misses)
        if isinstance(method, str):
            print(f"{options.misses}: {method}", file=sys.stderr)
            return 1
        print_misses(sets, options.misses, method)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="little text and one round, within a minute")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of: {'; '.join(METHODS)}")
    parser.add_argument(
        "--misses", nargs="?", const=FAIRTEST, choices=METHODS, metavar="METHOD", help="list a method's (fairtest's)"
    )
    parser.add_argument("--rounds", type=int, help="rounds of timing (3, or 1 with --quick)")
    parser.add_argument("--cap", type=float, default=10.0, help="seconds of a method in a round on one text (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
