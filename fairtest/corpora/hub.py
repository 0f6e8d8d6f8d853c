"""Datasets of the Hugging Face hub, and directories written by `datasets.save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairtest.errors import CorpusError

PREFIX = "hf:"


def load_hub_dataset(source: str) -> Any:
    """The dataset that "hf:owner/name", "hf:owner/name:split" or "hf:owner/name/configuration:split" names; the split
    is "train" where none is given. No code of the dataset is run.

    Raises:
        CorpusError: the name is malformed, or the dataset cannot be had.
    """
    name, _, split = source.removeprefix(PREFIX).partition(":")
    parts = name.split("/")
    if not all(parts) or len(parts) > 3:
        raise CorpusError(
            f"{source!r} names no dataset",
            where="corpus",
            fix="write hf:owner/name or hf:owner/name/configuration:split",
        )
    try:
        return _loaded("/".join(parts[:2]), parts[2:], split or "train")
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CorpusError(
            f"dataset {name!r} cannot be loaded: {type(error).__name__}: {reason}",
            where=source,
            fix="check name, split and network; without a network, fetch it elsewhere, write it with "
            "dataset.save_to_disk(DIRECTORY), and give that directory",
        ) from error


def _loaded(name: str, configuration: list[str], split: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, *configuration, split=split)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
    # What the hub itself made of a dataset that is a script: its rows as Parquet, in a folder for each configuration.
    folder = {"data_dir": configuration[0]} if configuration else {}
    return datasets.load_dataset(name, split=split, revision="refs/convert/parquet", **folder)


def load_saved_dataset(path: Path) -> Any:
    """The dataset in a directory written by `Dataset.save_to_disk`.

    Raises:
        CorpusError: the directory holds none, or several splits.
    """
    if (path / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in path.iterdir() if child.is_dir())
        raise CorpusError(
            f"the directory holds the splits {', '.join(splits)}", where=str(path), fix=f"give one: {path / splits[0]}"
        )
    if not (path / "state.json").is_file():
        raise CorpusError(
            "the directory is no saved dataset (it has no state.json)",
            where=str(path),
            fix="give a file, or a directory written by datasets' save_to_disk",
        )
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CorpusError(
            f"the saved dataset cannot be read: {type(error).__name__}: {reason}", where=str(path), fix="write it again"
        ) from error
