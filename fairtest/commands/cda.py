"""`fairtest cda preview CORPUS` and `fairtest cda apply IN OUT`: their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from fairtest.specs import AUGMENTATION_AXES, AUGMENTATION_MODES, AXIS_FILES, COUNTERFACTUALS

# What is written has a line for every view, so that copies as records are what two_sided gives, read without `record`.
_MODES = tuple(mode for mode in AUGMENTATION_MODES if mode != "naive_copies")
_CORPUS = (
    "a .txt, .jsonl, .ndjson, .json, .csv, .tsv or .parquet file, a directory of datasets.save_to_disk, or"
    " hf:owner/name[/configuration][:split]"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the two commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    preview = commands.add_parser(
        "preview",
        help="show what would change, and how much of the corpus",
        description="Shows the first records that have a counterfactual, a few that are left alone with the reason, and"
        " what would happen to the whole corpus. Writes nothing.",
    )
    preview.add_argument("corpus", metavar="CORPUS", help=_CORPUS)
    _add_cda_options(preview)
    preview.add_argument(
        "--limit", type=_whole(0), default=10, metavar="N", help="records with a counterfactual to show (default 10)"
    )
    preview.add_argument("--sample", type=_whole(1), metavar="N", help="read no more than the first N records")
    preview.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto (the default): on a terminal, unless NO_COLOR is set; without colour, [-old-]{+new+}",
    )
    preview.set_defaults(run=_preview)

    apply = commands.add_parser(
        "apply",
        help="write the corpus with its counterfactuals",
        description="Writes one line for every view of a record: the record's columns with `text`; `view`, 0 for the"
        " original and 1, 2, ... for its counterfactuals; `reason`, why there is none; and `record`, its position in"
        " the corpus.",
    )
    apply.add_argument("corpus", metavar="IN", help=_CORPUS)
    apply.add_argument("out", metavar="OUT", type=Path, help="a .jsonl, .ndjson, .csv, .tsv or .parquet file")
    _add_cda_options(apply)
    apply.add_argument("--force", action="store_true", help="replace OUT where it exists")
    apply.add_argument(
        "--allow-unchanged", action="store_true", help="write OUT also where no record has a counterfactual"
    )
    apply.set_defaults(run=_apply)


def _add_cda_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--axis",
        action="append",
        metavar="AXIS",
        help=f"what to swap: {', '.join(AUGMENTATION_AXES)}, or your own word lists in a {' or '.join(AXIS_FILES)}"
        " file; may be given several times (default gender)",
    )
    parser.add_argument("--names", action="store_true", help="swap first names too, one to one")
    parser.add_argument("--field", default="text", metavar="NAME", help="the column with the text (default text)")
    parser.add_argument(
        "--records", choices=("line", "paragraph"), default="line", help="what is a record of a .txt file"
    )
    parser.add_argument(
        "--mode",
        choices=_MODES,
        default="two_sided",
        help="two_sided (the default): counterfactuals are further views of a record; substitute: a record has one, of"
        " a group that is drawn",
    )
    parser.add_argument(
        "--fraction",
        type=_share,
        default=1.0,
        metavar="SHARE",
        help="the share of the records that are augmented, above 0 and at most 1 (default 1); which ones is drawn by"
        " their texts",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default 0)")
    parser.add_argument(
        "--counterfactuals",
        choices=COUNTERFACTUALS,
        default="each",
        help="of an axis of three groups or more: one for each other group (the default), or one that is drawn",
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text}")
    return value


_share.__name__ = "number"  # argparse names it in its message


def _whole(smallest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"must be {smallest} or more, got {value}")
        return value

    number.__name__ = "whole number"  # argparse names it in its message
    return number


def _preview(options: argparse.Namespace) -> int:
    from fairtest.commands.preview import preview

    return preview(options)


def _apply(options: argparse.Namespace) -> int:
    from fairtest.commands.apply import apply

    return apply(options)
