"""Gaussian noise for the clipped sum: fast, the same for any number of threads or processes, and never the same twice.

torch's generator on the CPU keeps only 32 bits of its seed, so noise seeded through `manual_seed` can be found by
trying four billion seeds, and a long run meets the same seed again. Here the generator's whole state (624 words of the
Mersenne twister, Matsumoto and Nishimura 1998) is written, derived by SHAKE-256 from a key for each step, tensor and
stripe of values. The key is the run's seed, for comparisons that can be repeated, or 256 bits from the operating system
for each step. The twister is no cryptographic generator, and normal numbers in floating point are not exactly normal
(Mironov 2012): the same limits as in other libraries' default mode.

On a GPU torch's generator is another (Philox, Salmon et al. 2011): it keeps all 64 bits of a seed, and each step and
tensor gets 64 bits that follow from the same keys. So a seed's noise there is not that of a CPU; nor perhaps that of
another kind of GPU, because which number goes to which value depends on its processors.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fairtest.errors import TrainingError

STRIPE = 1 << 18  # values that share a generator state
_PIECE = 1 << 15  # values drawn and added at once: they stay in the cache
_WORDS = 624
_FIRST_WORD = 3  # of the state's 64-bit words; before it: seed, what is left of the block, where it goes on


class GaussianNoise:
    """Independent normal numbers for the steps of one run.

    Args:
        seed: makes the noise repeatable; None draws it from the operating system.
        share: hands every process of a group the same bytes, those of its first process; by default there is one
            process. Only asked for entropy: a seed is shared already.
    """

    def __init__(self, seed: int | None, share: Callable[[bytes], bytes] | None = None) -> None:
        self.seed = seed
        self._share = share

    @property
    def repeatable(self) -> bool:
        """Whether the same noise can be drawn again."""
        return self.seed is not None

    def add(self, tensors: Sequence[Tensor], std: float, step: int, divide_by: float = 1.0) -> None:
        """tensors[i] <- (tensors[i] + noise) / divide_by in place, noise of standard deviation `std`.

        The noise of a seed depends on step, position in `tensors` and position in the tensor alone.
        """
        key = self._key(step)
        if std == 0:
            for tensor in tensors:
                tensor.div_(divide_by)
            return
        stripes: list[Callable[[], None]] = []
        for index, tensor in enumerate(tensors):
            tensor_key = key + index.to_bytes(4, "big")
            if tensor.device.type != "cpu" or not tensor.is_contiguous():
                _add_at_once(tensor, std, divide_by, tensor_key)
                continue
            flat = tensor.view(-1)
            stripes += [
                functools.partial(_add_stripe, flat[start : start + STRIPE], std, divide_by, tensor_key, start)
                for start in range(0, len(flat), STRIPE)
            ]
        threads = min(torch.get_num_threads(), len(stripes))
        if threads < 2:
            for stripe in stripes:
                stripe()
            return
        with ThreadPoolExecutor(threads) as pool:  # drawing releases the interpreter's lock
            for done in [pool.submit(stripe) for stripe in stripes]:
                done.result()

    def _key(self, step: int) -> bytes:
        if self.seed is not None:
            return f"noise:{self.seed}:{step}:".encode()
        drawn = secrets.token_bytes(32)
        return drawn if self._share is None else self._share(drawn)


@torch.no_grad()
def _add_stripe(values: Tensor, std: float, divide_by: float, key: bytes, start: int) -> None:
    generator = generator_of(key + start.to_bytes(8, "big"))
    drawn = torch.empty(min(_PIECE, len(values)), dtype=values.dtype)
    for piece in torch.split(values, _PIECE):
        noise = drawn[: len(piece)].normal_(0.0, std, generator=generator)
        piece.add_(noise)
        if divide_by != 1:
            piece.div_(divide_by)


@torch.no_grad()
def _add_at_once(tensor: Tensor, std: float, divide_by: float, key: bytes) -> None:
    if tensor.device.type == "cpu":
        generator = generator_of(key)
    else:  # Philox, which keeps all 64 bits of a seed
        generator = torch.Generator(device=tensor.device)
        generator.manual_seed(int.from_bytes(hashlib.shake_256(key).digest(8), "big"))
    tensor.add_(torch.empty_like(tensor).normal_(0.0, std, generator=generator)).div_(divide_by)


def generator_of(key: bytes) -> torch.Generator:
    """A CPU generator whose whole state follows from `key`.

    Raises:
        TrainingError: this version of torch keeps a generator's state in another form.
    """
    words = np.frombuffer(hashlib.shake_256(key).digest(4 * _WORDS), dtype=np.uint32)
    state = _fresh_state().copy()
    state[_FIRST_WORD : _FIRST_WORD + _WORDS] = words
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(state.view(np.uint8)))
    return generator


@functools.lru_cache(maxsize=1)
def _fresh_state() -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A state before its first number, with the layout checked: word i of a seeded twister is known from word i - 1."""
    seed = 20_260_211
    state = torch.Generator().manual_seed(seed).get_state().numpy().view(np.uint64)
    word = seed
    expected = [word]
    for index in range(1, _WORDS):
        word = (1812433253 * (word ^ (word >> 30)) + index) & 0xFFFFFFFF
        expected.append(word)
    if state[_FIRST_WORD : _FIRST_WORD + _WORDS].tolist() != expected:
        raise TrainingError(
            f"the random generator of torch {torch.__version__} keeps its state in a form that is not known here",
            where="noise for differential privacy",
            fix="install a version of torch that this package was tested with, and report it",
        )
    return state
