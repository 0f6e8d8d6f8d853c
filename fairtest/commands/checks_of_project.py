"""What the doctor looks at in a project: settings, corpus, model, probe sets, store, gate tests."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.commands.checks_of_packages import ABSENT, OK, PROBLEM, Check
from fairtest.commands.project import amount, counted, project_settings
from fairtest.errors import FairtestError

if TYPE_CHECKING:
    from fairtest.settings import Settings

_UNKNOWN_SHARE = 0.2
_TEXTS = 200
_PLUGIN_TWICE = re.compile(r"^\s*pytest_plugins\b.*pytest_fairtest", re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """A directory and the settings found for it; `error` where they cannot be read."""

    directory: Path
    settings: Settings | None
    root: Path | None
    error: FairtestError | None = None

    @classmethod
    def of(cls, directory: Path) -> Project:
        """Reads the settings."""
        try:
            settings, root = project_settings(directory)
        except FairtestError as error:
            return cls(directory, None, None, error)
        return cls(directory, settings, root)

    def checks(self) -> Iterator[Check]:
        """One after the other, as each is found."""
        yield self._settings()
        if self.settings is None:
            return
        yield _corpus(self.settings)
        yield _model(self.settings)
        yield from _probe_sets(self.settings)
        yield from _store(Path(self.settings.cache_dir))
        yield from self._conftest()

    def _settings(self) -> Check:
        if self.error is not None:
            return _of_error("settings", self.error)
        if self.root is None or self.settings is None:
            what = "no pyproject.toml here or above has a [tool.fairtest] table"
            return Check("settings", ABSENT, what, "fairtest init writes a first gate test and its settings")
        places = Counter(place for place in self.settings.origin.values() if place != "default")
        told = "; ".join(f"{count} from {place}" for place, count in places.items())
        text = f"settings in {self.root}: {told} (each: pytest --fairtest-config)"
        return Check("settings", OK, text)

    def _conftest(self) -> Iterator[Check]:
        root = self.root or self.directory
        for path in (root / "conftest.py", root / "tests" / "conftest.py"):
            try:
                twice = _PLUGIN_TWICE.search(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError):
                continue
            if twice:
                what = f"{path.name} loads pytest's plugin of fairtest, which is loaded already"
                yield Check("conftest", PROBLEM, what, "remove it from pytest_plugins")


def _of_error(name: str, error: FairtestError, *, needed: bool = True) -> Check:
    where = f" ({error.where})" if error.where else ""
    return Check(name, PROBLEM, f"{name}: {error.what}{where}", error.fix, needed=needed)


def _corpus(settings: Settings) -> Check:
    from fairtest.corpora.claims import require_batch, require_unit
    from fairtest.experiments.inputs import Inputs

    if settings.corpus is None:
        fix = 'add corpus = "records.jsonl" to [tool.fairtest]; only gates on finished models need none'
        return Check("corpus", ABSENT, "no corpus is set, so no arm can be trained", fix)
    if settings.corpus.startswith("hf:"):
        text = f"corpus {settings.corpus}: not looked at, it is fetched from the hub when an arm is trained"
        return Check("corpus", OK, text)
    inputs = Inputs(settings)
    try:
        kept, aside = inputs.training_corpus, inputs.held_out_corpus
        require_batch(kept, settings.training, where="setting 'batch_size'")
        require_unit(kept, settings.dp, where="setting 'unit'")
    except FairtestError as error:
        return _of_error("corpus", error)
    records = counted(kept.record_count + aside.record_count + kept.records_left_out, "record")
    text = (
        f"corpus {Path(settings.corpus).name}: {records}; {len(kept):,} units to train on and {len(aside):,} held out,"
        f" each a {kept.unit_name}"
    )
    unknown = _unknown_share(settings, [record.text for unit in kept.units[:_TEXTS] for record in unit.records])
    if unknown > _UNKNOWN_SHARE:
        return Check(
            "corpus",
            PROBLEM,
            f"{text}; {unknown:.0%} of its words are unknown to fairtest/tiny, which knows those of its sample alone",
            'set model to a model that reads them, for example "distilgpt2"',
        )
    return Check("corpus", OK, text)


def _unknown_share(settings: Settings, texts: list[str]) -> float:
    from fairtest.training.sources import TINY

    if settings.model != TINY:
        return 0.0
    from tokenizers import Tokenizer

    from fairtest.tiny import model_directory

    tokenizer = Tokenizer.from_file(str(model_directory() / "tokenizer.json"))
    unknown = tokenizer.token_to_id("<|unk|>")
    ids: list[int | None] = [number for text in texts for number in tokenizer.encode(text).ids]
    return ids.count(unknown) / max(len(ids), 1)


def _model(settings: Settings) -> Check:
    from fairtest.training.sources import SMOLLM2, TINY, resolve_model

    name = settings.model
    if name not in {TINY, SMOLLM2} and not Path(name).expanduser().exists():
        return _hub_model(name)
    try:
        source = resolve_model(name)
    except FairtestError as error:
        return _of_error("model", error)
    return Check("model", OK, f"model {name}: {source.kind}, SHA-256 {source.digest[:12]}")


def _hub_model(name: str) -> Check:
    """A hub id: in the local cache, or to be fetched."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        place = Path(snapshot_download(name, local_files_only=True))
    except HFValidationError:
        fix = "give an existing directory, a hub id such as distilgpt2, or fairtest/tiny"
        return Check("model", PROBLEM, f"model {name}: no such directory, and no hub id", fix)
    except OSError:
        place = Path()
    if (place / "config.json").is_file() and list(place.glob("*.safetensors")):
        return Check("model", OK, f"model {name}: in the local cache of the hub")
    if constants.HF_HUB_OFFLINE:
        fix = f"unset HF_HUB_OFFLINE once and run: hf download {name}; or name a local directory"
        return Check("model", ABSENT, f"model {name}: not in the local cache, and the hub is switched off", fix)
    text = f"model {name}: no directory, and not in the local cache: it is fetched from the hub at first use"
    return Check("model", ABSENT, text, f"hf download {name} fetches it now", needed=False)


def _probe_sets(settings: Settings) -> Iterator[Check]:
    from fairtest.probes.hub import means_hub
    from fairtest.probes.registry import PUBLISHED, load_probe_set

    yield Check("probes", OK, "probe set templates: comes with fairtest", needed=False)
    place = settings.data_dir
    if place is None:
        text = f"published probe sets ({', '.join(PUBLISHED)}): no data_dir is set"
        fix = 'set data_dir to the directory that holds them, or data_dir = "hf"'
        yield Check("data_dir", ABSENT, text, fix, needed=False)
        return
    if means_hub(place):
        yield Check("data_dir", OK, "published probe sets: fetched from the hub when first used (not looked at)")
        return
    if not Path(place).is_dir():
        yield Check("data_dir", ABSENT, f"data_dir: there is no directory {place}", "correct the setting data_dir")
        return
    for name in PUBLISHED:
        try:
            probes = load_probe_set(name, place)
        except FairtestError as error:
            yield Check(f"probes {name}", ABSENT, f"probe set {name}: {error.what}", error.fix, needed=False)
            continue
        text = f"probe set {name}: {counted(len(probes), 'item')}, version {probes.version}"
        yield Check(f"probes {name}", OK, text, needed=False)


def _store(root: Path) -> Iterator[Check]:
    from fairtest.store.cleaning import leftovers
    from fairtest.store.listing import listed

    fix = "choose a writable directory with the setting cache_dir or FAIRTEST_CACHE_DIR"
    if not (root / "entries").is_dir():
        above = next(place for place in (root, *root.parents) if place.exists())
        if above.is_dir() and os.access(above, os.W_OK):
            yield Check("store", OK, f"store {root}: made at first use")
        else:
            yield Check("store", PROBLEM, f"store {root}: cannot be made in {above}", fix)
        return
    entries = listed(root)
    size = amount(sum(entry.size for entry in entries))
    text = f"store {root}: {counted(len(entries), 'entry', 'entries')}, {size}"
    if all(os.access(root / name, os.W_OK) for name in ("entries", "locks", "work")):
        yield Check("store", OK, text)
    else:
        yield Check("store", PROBLEM, f"{text}; it cannot be written", fix)
        return
    left = leftovers(root)
    if left:
        size = amount(sum(one.size for one in left))
        what = f"the store has {counted(len(left), 'unfinished piece')} ({size}) of killed processes"
        yield Check("leftovers", PROBLEM, what, "fairtest cache gc removes them", needed=False)
    else:
        yield Check("leftovers", OK, "no locks or unfinished entries of killed processes", needed=False)
