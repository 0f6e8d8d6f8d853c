"""A GPU that is not there: tensors that say "cuda:0", compute on the CPU, and raise where those of a real GPU do.

    with pretend_gpu() as gpu:
        model.to("cuda")
        ...
        gpu.waits  # how often the host had to wait for the device, by what made it wait

What CUDA refuses is refused: an operation on tensors of two devices (but for a number of no dimensions beside an
elementwise operation, CPU indices of a CUDA tensor, and copies), a generator of the other device, `numpy()`, integer
matrix products. Where CUDA's rule is not known for sure, this one raises. Random numbers without a generator come from
a state of the device's own, autocast follows torch's own lists for CUDA, and backward passes run in another thread, as
they do there. What cannot be told this way: the numbers that real kernels give, memory, and time.

How it is done. A tensor of the device is a wrapper around one on the CPU, and what is called on it arrives here. Within
torch it is of device type XLA, which a torch without CUDA can differentiate and CUDA's autocast takes for its own; to
everybody who asks in Python it is "cuda:0".
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch
from pretend_gpu_rules import Waits, note_waits, require_allowed, require_generator, require_one_device
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda:0")
CPU = torch.device("cpu")
_INNER = torch.device("xla:0")
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
aten = torch.ops.aten


class _Device:
    """What a real device has besides tensors: a random state of its own, and somebody who waits for it."""

    def __init__(self):
        self.waits = Waits()
        self.drawing = False
        self.state = torch.Generator().manual_seed(0).get_state()

    @contextlib.contextmanager
    def own_random_state(self):
        before = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(before)


_present = None  # the device while `pretend_gpu` is entered


class OnGpu(torch.Tensor):
    """A tensor of the device; `held` has its values, on the CPU."""

    @staticmethod
    def __new__(cls, held):
        # In inference mode a view of a usual tensor is still a usual one.
        differs = held.is_inference() != torch.is_inference_mode_enabled()
        with torch.inference_mode(held.is_inference()) if differs else contextlib.nullcontext():
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                layout=held.layout,
                device=_INNER,
                _extra_dispatch_keys=_AUTOCAST,
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            args = (args[0], _with_tensors(args[1]), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_xla = property(lambda self: False)

    def get_device(self):
        return 0

    def tolist(self):
        _present.waits.note("item")
        return self.held.tolist()

    def numpy(self, **_):
        what = "can't convert cuda:0 device type tensor to numpy."
        raise TypeError(f"{what} Use Tensor.cpu() to copy the tensor to host memory first.")

    __array__ = numpy

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, other):
        if type(other) is not OnGpu:
            raise RuntimeError("incompatible tensor type: data of a cuda tensor is set to a cpu tensor")
        self.held = other.held

    def new_tensor(self, data, dtype=None, **options):
        return torch.tensor(data, dtype=dtype or self.dtype, **options).to(_INNER)

    def data_ptr(self):
        return self.held.data_ptr()

    def untyped_storage(self):
        return _Storage(self.held.untyped_storage())

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            copied = memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
            copied._is_param = isinstance(self, torch.nn.Parameter)
        return memo[id(self)]

    def __repr__(self):
        return f"OnGpu({self.held!r})"

    def _refused(self, *_, **__):
        raise NotImplementedError("storage of a tensor on a pretended GPU")

    storage = set_ = __reduce_ex__ = _refused


def _with_tensors(index):
    """Lists in an index become tensors, which are then copied to the device."""
    if isinstance(index, tuple):
        return tuple(map(_with_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


class _Storage:
    """Names the memory of a tensor, as far as savers look for memory that is shared."""

    def __init__(self, held):
        self._held = held
        self.device = GPU

    def data_ptr(self):
        return self._held.data_ptr()

    def nbytes(self):
        return self._held.nbytes()


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False):  # noqa: PLR0917 - torch's own
    """The kernel that the CPU would choose, so that results can be compared; a GPU has its own."""
    with torch._C.DisableTorchFunctionSubclass():
        given = [one for one in (query, key, value, attn_mask) if one is not None]
        require_one_device("scaled_dot_product_attention", given, set())
        held = [one.held.detach().requires_grad_(one.requires_grad) for one in given]
        mask = held[3] if attn_mask is not None else None
        with torch.enable_grad() if torch.is_grad_enabled() else contextlib.nullcontext():
            choice = torch._fused_sdp_choice(*held[:3], mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            added = torch.zeros_like(attn_mask, dtype=query.dtype)
            attn_mask = added.masked_fill_(attn_mask.logical_not(), -torch.inf)
        if choice == 1:
            found = aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
            )
        else:
            found = aten._scaled_dot_product_attention_math(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        return found[0]


class _Names(TorchFunctionMode):
    """Whoever names the GPU means the device type that it has within torch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.to:
            args = tuple(map(_renamed, args))
        if func is torch.Tensor.cuda:
            func, args = torch.Tensor.to, (args[0], _INNER)
        if func is not torch.device and "device" in kwargs:
            kwargs = {**kwargs, "device": _renamed(kwargs["device"])}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == _INNER:
            return func(*args, **{**kwargs, "device": None}).to(_INNER)
        generator = kwargs.get("generator")
        if not isinstance(generator, _Generator):
            return func(*args, **kwargs)
        _present.drawing = True  # what arrives below is the generator that it is to torch
        try:
            return func(*args, **kwargs)
        finally:
            _present.drawing = False


def _renamed(x):
    named = x if isinstance(x, torch.device) else None
    if isinstance(x, str) and x.partition(":")[0] == "cuda":
        named = torch.device(x)
    if named is None or named.type != "cuda":
        return x
    if (named.index or 0) > 0:
        raise RuntimeError("CUDA error: invalid device ordinal")
    return _INNER


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    with torch._C.DisableTorchFunction():
        return _on_the_device(func, args, kwargs)


def _on_the_device(func, args, kwargs):
    given = [*_parts(args), *_parts(kwargs.values())]
    tensors = [x for x in given if isinstance(x, torch.Tensor)]
    there = any(type(x) is OnGpu for x in tensors)
    asked = kwargs.get("device")
    if not there and not any(type(x) is torch.device and x == _INNER for x in given):
        require_generator(kwargs.get("generator"), drawing=_present.drawing, lands=False)
        return func(*args, **kwargs)
    if _is_made_of_others(func):  # arrives whole in inference mode only
        with _Operations():
            return func.decompose(*args, **kwargs)
    written = _written(func, args, kwargs)
    lands = there if asked is None else asked == _INNER
    if func.overloadpacket in (aten.copy_, aten.copy):
        lands = type(args[0]) is OnGpu
    of_generator = {"drawing": _present.drawing, "lands": lands}
    require_allowed(func, args, kwargs, tensors=tensors, written=written, **of_generator)
    note_waits(_present.waits, func, args, kwargs, lands=lands)
    inner_kwargs = {name: _inside(x) for name, x in kwargs.items()}
    if asked is not None:
        inner_kwargs["device"] = CPU
    draws = lands and torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None
    with _present.own_random_state() if draws else contextlib.nullcontext():
        found = func(*map(_inside, args), **inner_kwargs)
    known = {id(one.held): one for one in written if type(one) is OnGpu}
    for one in known.values():
        if one.shape != one.held.shape:
            raise NotImplementedError(f"{func} changed the shape of a tensor that it writes to")
    return _outside(found, known) if lands else found


def _parts(values):
    for x in values:
        if isinstance(x, (list, tuple)):
            yield from x
        else:
            yield x


def _inside(x):
    if type(x) is OnGpu:
        return x.held
    return [_inside(one) for one in x] if isinstance(x, (list, tuple)) else x


def _outside(x, known):
    if isinstance(x, torch.Tensor):
        return known[id(x)] if id(x) in known else OnGpu(x)
    return type(x)(_outside(one, known) for one in x) if type(x) in (list, tuple) else x


@functools.cache
def _is_made_of_others(func):
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


@functools.cache
def _written_places(func):
    """(place, name) of each argument that an operation writes to; no place where it has to be named."""
    return [
        (None if argument.kwarg_only else place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _written(func, args, kwargs):
    """The tensors that an operation writes to."""
    found = []
    for place, name in _written_places(func):
        value = kwargs.get(name, args[place] if place is not None and place < len(args) else None)
        found += [x for x in _parts([value]) if isinstance(x, torch.Tensor)]
    return found


class _Generator(torch.Generator):
    """A generator of the device. It never draws what a CPU generator does."""

    def __new__(cls, device="cpu"):
        if torch.device(device).type == "cpu":
            return _RealGenerator(device)
        return _RealGenerator.__new__(cls)

    @property
    def device(self):
        return GPU

    def manual_seed(self, seed):
        super().manual_seed(seed ^ 0x5EED)
        return self

    def get_state(self):
        raise NotImplementedError("state of a generator of a pretended GPU")

    set_state = get_state


_RealGenerator = torch.Generator


@contextlib.contextmanager
def _guard():
    """Lets torch differentiate for the device: with the guard of meta tensors, which does nothing."""
    try:
        library = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libc10.*"))))
        guards = (ctypes.c_void_p * 20).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    except (StopIteration, OSError, ValueError):
        pytest.skip("the guards of torch's devices are not found in this build of it")
    xla, meta = 9, 14  # places of c10::DeviceType
    before = guards[xla]
    guards[xla] = guards[meta]
    try:
        yield
    finally:
        guards[xla] = before


def _elsewhere(run):
    """The same function, called in another thread: so are backward passes of a GPU."""

    def call(*args, **kwargs):
        if torch._C._functorch.peek_interpreter_stack() is not None:  # torch hands it on to its threads; we cannot
            with torch.autograd.set_multithreading_enabled(False):
                return run(*args, **kwargs)
        found = []

        def work():
            try:
                with _Operations(), _Names(), torch.autograd.set_multithreading_enabled(False):
                    found.append((run(*args, **kwargs), None))
            except BaseException as error:  # noqa: BLE001 - it is raised below
                found.append((None, error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        result, error = found[0]
        if error is not None:
            raise error
        return result

    return call


@contextlib.contextmanager
def pretend_gpu():
    """Within it torch has one CUDA device."""
    global _present  # noqa: PLW0603 - there is one device, as there is one torch
    device = _Device()

    def seed(value):
        device.state = _RealGenerator().manual_seed(int(value)).get_state()

    def set_state(state, device_index=0):
        device.state = state.clone()

    of_cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_initialized": True,
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda *_: True,
        "get_device_name": lambda *_: "a pretended GPU",
        "get_device_capability": lambda *_: (8, 0),
        "device": lambda *_: contextlib.nullcontext(),
        "manual_seed": seed,
        "manual_seed_all": seed,
        "get_rng_state": lambda *_: device.state.clone(),
        "set_rng_state": set_state,
    }
    swap = torch.__future__.get_swap_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for name, value in of_cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        backward = _elsewhere(torch.autograd._engine_run_backward)
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", backward))
        # Else parameters of modules that share one would be two afterwards.
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
        stack.enter_context(_guard())
        stack.enter_context(_Operations())
        stack.enter_context(_Names())
        _present = device
        try:
            yield device
        finally:
            _present = None


@contextlib.contextmanager
def noise_of_the_cpu():
    """Within it a tensor of the device gets the noise for privacy that it would get on the CPU."""
    from fairtest.training import noise

    def add(tensor, std, divide_by, key):
        host = tensor.cpu()
        flat = host.view(-1)
        for start in range(0, len(flat), noise.STRIPE):
            noise._add_stripe(flat[start : start + noise.STRIPE], std, divide_by, key, start)
        tensor.copy_(host)

    with mock.patch.object(noise, "_add_at_once", add):
        yield
