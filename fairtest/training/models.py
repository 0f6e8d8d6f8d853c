"""Loads a causal language model, chooses what of it is trained, and keeps what was trained."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairtest.errors import ModelError, StoreError
from fairtest.specs import Training
from fairtest.training.sources import ModelSource

if TYPE_CHECKING:
    from fairtest.training.trunk import Trunk

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass
class LoadedModel:
    """A model in float32 and evaluation mode (no dropout), with its tokenizer and where both came from.

    `trunk`, from `split_trunk`, lets every forward pass share the work of frozen lower layers.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    trunk: Trunk | None = None


def load_model(source: ModelSource, training: Training | None = None, *, seed: int = 0) -> LoadedModel:
    """Loads a model and marks what `training` trains; `None` trains nothing.

    The seed decides the start of LoRA adapters and nothing else; the global random state is left as it was.

    Raises:
        ModelError: the files do not hold a complete causal language model, or `training` does not fit it.
    """
    if source.kind == "smollm2":
        pristine, tokenizer = _dequantised(source)
        model = copy.deepcopy(pristine)
    else:
        model, tokenizer = _read(source)
    model.eval()
    model.requires_grad_(False)
    if training is not None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed seeds GPUs too
            set_trainable(model, training)
    return LoadedModel(model, tokenizer, source)


def move(loaded: LoadedModel, device: str) -> LoadedModel:
    """The same with its model on `device` ("cpu", "cuda", "cuda:N"); everything else follows the model.

    Raises:
        ModelError: there is no such device.
    """
    if not _DEVICE.fullmatch(device):
        raise ModelError(f"there is no device {device!r}", where="device", fix='give "cpu", "cuda" or "cuda:N"')
    kind, _, number = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise ModelError(
                f"torch sees {count} CUDA devices, so not {device!r}",
                where="device",
                fix='set device = "cpu", or install a torch for the GPU (`fairtest doctor` says what is there)',
            )
        # Without it sums of cuBLAS may be taken in another order every time; read when CUDA is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    loaded.model.to(device)
    return loaded


@functools.lru_cache(maxsize=1)
def _dequantised(source: ModelSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    # Reading a GGUF takes 15 seconds, copying the result half of one, and every arm and seed starts from it.
    model, tokenizer = _read(source)
    # With these marks transformers would refuse to save the weights, which are dequantised by now.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    return model, tokenizer


def _read(source: ModelSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(source.location)
    gguf = source.kind == "smollm2"
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if gguf:
        path, options["gguf_file"] = path.parent, path.name
    try:
        # The GGUF reader draws its progress bar on stderr whatever transformers is told.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()) if gguf else contextlib.nullcontext():
            tokenizer = AutoTokenizer.from_pretrained(path, **options)
            model, report = AutoModelForCausalLM.from_pretrained(
                path, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"model {source.name!r} cannot be loaded: {reason[:300]}",
            where=source.location,
            fix="give a causal language model in Hugging Face format (config.json, tokenizer, *.safetensors)",
        ) from error
    _require_complete(source, report)
    return model, tokenizer


def _require_complete(source: ModelSource, report: Mapping[str, Any]) -> None:
    missing, mismatched = sorted(report["missing_keys"]), sorted(str(key) for key in report["mismatched_keys"])
    if missing or mismatched:
        first = (missing or mismatched)[0]
        raise ModelError(
            f"model {source.name!r} lacks weights of a causal language model: {len(missing)} are missing and"
            f" {len(mismatched)} have another shape, the first is {first}",
            where=source.location,
            fix="give a model with a language-modelling head; transformers would have drawn these weights at random",
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Holds back the log lines and progress bars of transformers; what matters in them is checked by the caller."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The decoder's list of layers and its qualified name, such as ("model.layers", ...).

    Raises:
        ModelError: no list of modules is as long as the configuration says the decoder is.
    """
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    raise ModelError(
        f"no list of {depth} decoder layers was found in {type(model).__name__}",
        where="Training(trainable=)",
        fix="use trainable='all' with this model",
    )


def set_trainable(model: PreTrainedModel, training: Training) -> None:
    """Marks the parameters that `training.trainable` names and freezes all others; "lora" puts adapters in, in place.

    LoRA (Hu et al. 2022): rank `lora_rank`, alpha = 2 rank, no dropout, on every linear layer inside the last
    `lora_layers` decoder layers, never on the head. The adapters' start is drawn from the global random state.

    Raises:
        ModelError: more layers asked for than the model has, or peft is not installed.
    """
    model.requires_grad_(False)
    if training.trainable == "all":
        model.requires_grad_(True)
        return
    name, layers = decoder_layers(model)
    lora = training.trainable == "lora"
    count = (training.lora_layers or len(layers)) if lora else int(training.trainable.partition(":")[2])
    if count > len(layers):
        raise ModelError(
            f"the last {count} decoder layers are to be trained, and the model has {len(layers)}",
            where="Training(lora_layers=)" if lora else "Training(trainable=)",
            fix=f"give at most {len(layers)}",
        )
    chosen = {f"{name}.{index}": layers[index] for index in range(len(layers) - count, len(layers))}
    if lora:
        _add_lora(model, chosen, training.lora_rank)
    else:
        for layer in chosen.values():
            layer.requires_grad_(True)


def _add_lora(model: PreTrainedModel, layers: Mapping[str, nn.Module], rank: int) -> None:
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            "trainable='lora' needs the package peft, and it is not installed",
            where="Training(trainable=)",
            fix='pip install "fairtest[lora]"',
        )
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    targets = {
        f"{prefix}.{name}": module
        for prefix, layer in layers.items()
        for name, module in layer.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    }
    transposed = {isinstance(module, Conv1D) for module in targets.values()}
    if len(transposed) != 1:
        raise ModelError(
            f"LoRA finds no linear layers of one kind in {type(model).__name__}",
            where="Training(trainable=)",
            fix="use trainable='last:K' or 'all' with this model",
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted(targets),
        fan_in_fan_out=transposed.pop(),
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    model.eval()


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters by name, on the CPU; a tied parameter appears once."""
    return {
        name: parameter.detach().cpu().clone().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trained_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies a `trained_state` into a model that trains the same parameters.

    Raises:
        StoreError: other names or shapes; the model is unchanged then.
    """
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [name for name in sorted(own.keys() & state.keys()) if own[name].shape != state[name].shape]
    if wrong:
        raise StoreError(
            f"a trained state does not fit its model: {len(wrong)} parameters differ, the first is {wrong[0]}",
            where="trained state",
            fix="load it into the model and with the Training() it was saved from",
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors by name as safetensors; the file appears complete or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    scratch: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        scratch = Path(name)
        os.close(handle)
        save_file(dict(state), scratch)
        scratch.replace(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"trained weights cannot be written: {error}", where=str(path), fix="check the disk and its permissions"
        ) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Tensor]:
    """Reads what `save_state` wrote.

    Raises:
        StoreError: no such file, or it is damaged.
    """
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"trained weights cannot be read: {error}", where=str(path), fix="remove the entry and train again"
        ) from error


def save_pretrained(loaded: LoadedModel, directory: Path) -> None:
    """Exports model and tokenizer as a plain Hugging Face directory, with adapters merged into their layers.

    Raises:
        StoreError: it cannot be written.
    """
    model = copy.deepcopy(loaded.model)
    _merge_adapters(model)
    try:
        with quiet_transformers():
            model.save_pretrained(directory)
            loaded.tokenizer.save_pretrained(directory)
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"a model cannot be written: {error}", where=str(directory), fix="check the disk and its permissions"
        ) from error


def _merge_adapters(model: nn.Module) -> None:
    if importlib.util.find_spec("peft") is None:
        return
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
