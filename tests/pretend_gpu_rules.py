"""What CUDA refuses, and what it makes the host wait for, of the operations that arrive at the pretended GPU."""

from __future__ import annotations

import sys
from collections import Counter

import torch

aten = torch.ops.aten

# TensorIterator lets one number of no dimensions on the CPU take part in these, if the result is on the GPU.
_ELEMENTWISE = {
    "add", "sub", "rsub", "mul", "div", "true_divide", "floor_divide", "remainder", "fmod", "pow", "atan2", "hypot",
    "eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum", "fmax", "fmin", "nextafter", "copysign", "xlogy",
    "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "masked_fill",
    "fill",
}  # fmt: skip
_INDEXING = {"index", "_unsafe_index"}
_INDEXED_WRITING = {"index_put", "_index_put_impl", "_unsafe_index_put"}
_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "vdot", "addr"}
# The size of what comes out is known once the device has computed it.
_SIZED_BY_DATA = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
_MULTIPLIED = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128}
_COPIES = (aten.copy_, aten.copy, aten._to_copy)


class Waits(Counter):
    """How often the host waited, by (what for, where in fairtest)."""

    def of(self, *kinds):
        return sum(count for (kind, _), count in self.items() if kind in kinds or not kinds)

    def note(self, kind):
        frame = sys._getframe(1)
        while frame is not None and "/fairtest/" not in frame.f_code.co_filename:
            frame = frame.f_back
        place = "elsewhere"
        if frame is not None:
            place = f"{frame.f_code.co_filename.rpartition('/fairtest/')[2]}:{frame.f_lineno}"
        self[kind, place] += 1


def require_allowed(func, args, kwargs, *, tensors, written, drawing, lands):
    """Raises what CUDA raises; `drawing`: the generator is of the GPU; `lands`: so is the result."""
    name = func.overloadpacket.__name__
    if func.overloadpacket not in _COPIES:
        require_one_device(name, tensors, {id(x) for x in written}, args)
        require_generator(kwargs.get("generator"), drawing=drawing, lands=lands)
    kinds = {x.dtype for x in tensors} - _MULTIPLIED
    if kinds and name.rstrip("_") in _PRODUCTS:
        raise RuntimeError(f'"{name}_cuda" not implemented for {str(kinds.pop()).removeprefix("torch.")!r}')
    if torch.Tag.inplace_view in func.tags:
        raise NotImplementedError(f"{func} changes the shape of a tensor in place")


def require_one_device(name, tensors, written, args=()):
    elsewhere = [x for x in tensors if not x.is_cuda]
    if not elsewhere or len(elsewhere) == len(tensors):
        return
    bare = name.rstrip("_")
    numbers = all(x.dim() == 0 and id(x) not in written for x in elsewhere)
    if bare in _INDEXING and args[0].is_cuda:
        return  # indices are moved to the device
    if bare in _INDEXED_WRITING and args[0].is_cuda:
        values = args[2]
        if values.is_cuda or values.dim() == 0:
            return
    if bare == "where" and numbers and args[0].is_cuda:
        return
    if bare in _ELEMENTWISE and numbers and len(elsewhere) == 1:
        return
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        f" (in {name}, on a pretended GPU)"
    )


def require_generator(generator, *, drawing, lands):
    if generator is not None and drawing != lands:
        wanted, found = (("cpu", "cuda")[of_gpu] for of_gpu in (lands, drawing))
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")


def note_waits(waits, func, args, kwargs, *, lands):
    """Counts what the host waits for when this is called, if anything."""
    name = func.overloadpacket.__name__
    bare = name.rstrip("_")
    if func.overloadpacket in _COPIES:
        source = args[0] if func.overloadpacket is aten._to_copy else args[1]
        if lands != (source.is_cuda):
            waits.note("to the device" if lands else "to the host")
    elif name in ("_local_scalar_dense", "equal"):
        waits.note("item")
    elif bare in _SIZED_BY_DATA or (func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None):
        waits.note("size")
    elif bare in (_INDEXING | _INDEXED_WRITING):
        given = [x for x in args[1] if isinstance(x, torch.Tensor)]
        if any(x.dtype in (torch.bool, torch.uint8) for x in given):
            waits.note("size")
        if any(not x.is_cuda for x in given):
            waits.note("to the device")
