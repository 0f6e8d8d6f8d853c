"""The pretended GPU refuses what CUDA refuses, takes what CUDA takes, and computes what the CPU does."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from pretend_gpu import GPU, OnGpu, pretend_gpu
from torch import nn
from torch.nn import functional

DEVICES = "Expected all tensors to be on the same device"


@pytest.fixture
def gpu():
    with pretend_gpu() as present:
        yield present


# With a on the GPU, c on the CPU, both [3, 3]; i, j integer vectors, m, n masks, s, z of no dimensions, likewise.
REFUSED = {
    "sum of two devices": lambda a, c, **_: a + c,
    "sum of two devices, the other way": lambda a, c, **_: c + a,
    "in-place sum into the CPU": lambda a, c, **_: c.add_(a),
    "in-place sum into the GPU": lambda a, c, **_: a.add_(c),
    "in-place sum of a number of the GPU into the CPU": lambda c, s, **_: c.add_(s),
    "in-place sum into a number of the CPU": lambda s, z, **_: z.add_(s),
    "a number of the GPU beside a tensor of the CPU": lambda c, s, **_: c * s,
    "a vector of one value of the CPU": lambda a, c, **_: a * c[:1, 0],
    "matrix product": lambda a, c, **_: a @ c,
    "matrix product with a product's room on the CPU": lambda a, c, **_: torch.mm(a, a, out=c),
    "linear layer on the CPU": lambda a, **_: nn.Linear(3, 3)(a),
    "embedding with ids on the CPU": lambda a, j, **_: functional.embedding(j, a),
    "embedding on the CPU with ids on the GPU": lambda c, i, **_: functional.embedding(i, c),
    "CPU tensor at indices of the GPU": lambda c, i, **_: c[i],
    "CPU tensor at a mask of the GPU": lambda c, m, **_: c[m],
    "writing to a CPU tensor at indices of the GPU": lambda c, i, **_: c.__setitem__(i, 0.0),
    "writing rows of the CPU into the GPU by indices": lambda a, c, i, **_: a.__setitem__(i, c),
    "gather with indices on the CPU": lambda a, j, **_: a.gather(0, j[None]),
    "index_select with indices on the CPU": lambda a, j, **_: a.index_select(0, j),
    "index_add with rows on the CPU": lambda a, c, i, **_: a.index_add_(0, i, c),
    "scatter_add with values on the CPU": lambda a, c, i, **_: a.scatter_add_(0, i[None], c[:1]),
    "cat": lambda a, c, **_: torch.cat([a, c]),
    "stack": lambda a, c, **_: torch.stack([a, c]),
    "where with a condition on the CPU": lambda a, n, **_: torch.where(n, a, 0.0),
    "where with values on the CPU": lambda a, c, m, **_: torch.where(m, a, c),
    "masked_fill with a mask on the CPU": lambda a, n, **_: a.masked_fill(n, 0.0),
    "cross entropy with targets on the CPU": lambda a, j, **_: functional.cross_entropy(a, j),
    "layer norm with weights on the CPU": lambda a, c, **_: functional.layer_norm(a, (3,), c[0]),
    "attention": lambda a, c, **_: functional.scaled_dot_product_attention(a[None], a[None], c[None]),
    "searchsorted": lambda a, c, **_: torch.searchsorted(a, c),
    "maximum": lambda a, c, **_: torch.maximum(a, c),
    "lerp": lambda a, c, **_: torch.lerp(a, c, 0.5),
    "dot": lambda a, c, **_: torch.dot(a[0], c[0]),
    "allclose": lambda a, c, **_: torch.allclose(a, c),
    "equal": lambda a, c, **_: torch.equal(a, c),
}
OTHERS = {
    "numpy": (lambda a, **_: a.numpy(), TypeError, "can't convert cuda:0 device type tensor to numpy"),
    "a CPU generator for the GPU": (
        lambda a, **_: a.normal_(generator=torch.Generator()),
        RuntimeError,
        "Expected a 'cuda' device type for generator but found 'cpu'",
    ),
    "a CPU generator for a new tensor of the GPU": (
        lambda **_: torch.randn(3, generator=torch.Generator(), device="cuda"),
        RuntimeError,
        "Expected a 'cuda' device type",
    ),
    "a GPU generator for the CPU": (
        lambda c, **_: c.normal_(generator=torch.Generator(device="cuda")),
        RuntimeError,
        "Expected a 'cpu' device type for generator but found 'cuda'",
    ),
    "product of integers": (lambda i, **_: i[None] @ i[:, None], RuntimeError, "not implemented for"),
    "gradient of the other device": (lambda a, c, **_: setattr(a, "grad", c), RuntimeError, "device"),
    "data of the other device": (lambda a, c, **_: setattr(a, "data", c), RuntimeError, "incompatible tensor type"),
    "a device that is not there": (lambda c, **_: c.to("cuda:1"), RuntimeError, "invalid device ordinal"),
}
TAKEN = {
    "sum with a number": lambda a, **_: a + 2.5,
    "sum with a number of the CPU without dimensions": lambda a, z, **_: a + z,
    "the same in place": lambda a, z, **_: a.clone().mul_(z),
    "a number of the CPU before a tensor of the GPU": lambda a, z, **_: z / a,
    "comparison with a number of the CPU": lambda a, z, **_: a > z,
    "where with numbers of the CPU": lambda a, z, m, **_: torch.where(m[:, None], a, z),
    "masked_fill with a number of the CPU": lambda a, z, m, **_: a.masked_fill(m[:, None], z),
    "indices of the CPU": lambda a, j, **_: a[j],
    "a list of indices": lambda a, **_: a[[0, 2]],
    "a mask of the CPU": lambda a, n, **_: a[n],
    "writing a number at indices of the CPU": lambda a, j, **_: written(a, j, 7.0),
    "writing a number of the CPU": lambda a, j, z, **_: written(a, j, z),
    "copy from the CPU": lambda a, c, **_: a.clone().copy_(c),
    "slices written from the CPU": lambda a, c, **_: written(a, slice(1), c[:1]),
    "products": lambda a, **_: torch.addmm(a, a, a),
    "products into room": lambda a, **_: torch.mm(a, a, out=torch.empty_like(a)),
    "an embedding": lambda a, i, **_: functional.embedding(i, a),
    "attention": lambda a, **_: functional.scaled_dot_product_attention(a[None], a[None], a[None], is_causal=True),
    "sums, norms, sorting": lambda a, **_: a.sum(1).softmax(0).cumsum(0).topk(2).values,
    "a new tensor like it": lambda a, **_: torch.zeros_like(a) + a.new_ones(3) + torch.arange(3, device=a.device),
}  # fmt: skip


def written(tensor, where, value):
    copied = tensor.clone()
    copied[where] = value
    return copied


def given():
    torch.manual_seed(0)
    a, i, m = torch.randn(3, 3), torch.tensor([2, 0, 1]), torch.tensor([True, False, True])
    return {"a": a, "i": i, "m": m, "s": torch.tensor(0.5)}


def arguments():
    host = given()
    there = {name: value.to("cuda") for name, value in host.items()}
    return {**there, "c": host["a"], "j": host["i"], "n": host["m"], "z": host["s"]}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_devices_is_refused(gpu, name):
    with pytest.raises(RuntimeError, match=f"{DEVICES}|indices should be"):
        REFUSED[name](**arguments())


@pytest.mark.parametrize("name", OTHERS)
def test_other_things_that_cuda_refuses(gpu, name):
    operation, kind, message = OTHERS[name]
    with pytest.raises(kind, match=message):
        operation(**arguments())


@pytest.mark.parametrize("name", TAKEN)
def test_what_cuda_takes_gives_what_the_cpu_gives(gpu, name):
    found = TAKEN[name](**arguments())
    assert (type(found), found.device, found.is_cuda) == (OnGpu, GPU, True)
    host = given()
    expected = TAKEN[name](**host, c=host["a"], j=host["i"], n=host["m"], z=host["s"])
    assert torch.equal(found.cpu(), expected)


def test_copies_numbers_and_lists_leave_the_device(gpu):
    there = given()["a"].to("cuda")
    host = there.cpu()
    assert type(host) is torch.Tensor
    assert (host.device.type, there.to("cpu").device.type) == ("cpu", "cpu")
    assert float(there[0, 0]) == host[0, 0].item() == there.tolist()[0][0]
    assert torch.equal(torch.zeros(3, 3).copy_(there), host)
    assert [type(row) for row in there] == [OnGpu] * 3
    assert "cuda" in str(there.device)


def test_views_share_memory_and_gradients_stay_on_the_device(gpu):
    there = torch.zeros(4, 3, device="cuda")
    there[1:3].add_(1.0)
    there.view(-1)[0] = 5.0
    assert there.cpu().sum() == 11.0
    leaf = torch.ones(3, device="cuda", requires_grad=True)
    scaled = leaf * 2
    scaled[1:].mul_(3)  # in place on a view, with gradients
    scaled.sum().backward()
    assert type(leaf.grad) is OnGpu
    assert leaf.grad.tolist() == [2.0, 6.0, 6.0]


def test_a_module_keeps_the_identity_of_its_parameters(gpu):
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    both = nn.ModuleList([first, second])
    kept = first.weight
    both.to("cuda")
    assert both[0].weight is both[1].weight is kept
    assert isinstance(kept, nn.Parameter)
    assert (kept.device, kept.requires_grad, len(list(both.parameters()))) == (GPU, True, 3)
    copied = copy.deepcopy(both)
    assert copied[0].weight is copied[1].weight is not kept
    with torch.no_grad():
        copied[0].weight.zero_()
    assert kept.abs().sum() > 0
    both.to("cpu")
    assert type(both[0].weight) is nn.Parameter
    assert both[0].weight is both[1].weight is kept


def test_autocast_of_the_device_and_of_no_other_lowers_precision(gpu):
    there = torch.ones(2, 2, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert (there @ there).dtype == torch.bfloat16
        assert (there.cpu() @ there.cpu()).dtype == torch.float32
        with torch.autocast("cuda", enabled=False):
            assert (there @ there).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert (there @ there).dtype == torch.float32


def test_the_device_has_a_random_state_of_its_own(gpu):
    torch.manual_seed(3)
    with torch.random.fork_rng(devices=[0]):
        first = torch.rand(3, device="cuda")
        on_cpu = torch.rand(3)
    assert torch.equal(first, torch.rand(3, device="cuda"))
    assert torch.equal(on_cpu, torch.rand(3))
    with torch.random.fork_rng(devices=[]):
        torch.rand(3, device="cuda")
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(3, device="cuda"))
    seeded = [torch.Generator(device="cuda").manual_seed(7) for _ in range(2)]
    one, two = (torch.empty(3, device="cuda").normal_(generator=generator) for generator in seeded)
    assert torch.equal(one, two)
    assert not torch.equal(one.cpu(), torch.empty(3).normal_(generator=torch.Generator().manual_seed(7)))


def test_what_the_host_waits_for_is_counted(gpu):
    there = torch.arange(4.0, device="cuda")
    assert sum(gpu.waits.values()) == 0
    float(there[0])
    bool(there.any())
    there.tolist()
    there[there > 1]
    there.nonzero()
    there.cpu()
    torch.ones(2).to("cuda")
    there.add_(1).mul_(there).sum()
    assert (gpu.waits.of("item"), gpu.waits.of("size")) == (3, 2)
    assert (gpu.waits.of("to the host"), gpu.waits.of("to the device")) == (1, 1)
    assert gpu.waits.of() == 7


def test_nothing_is_left_afterwards():
    before = (torch.Generator, torch.cuda.is_available, torch.__future__.get_swap_module_params_on_conversion())
    with pretend_gpu():
        assert torch.cuda.device_count() == 1
    assert not torch.cuda.is_available()
    after = (torch.Generator, torch.cuda.is_available, torch.__future__.get_swap_module_params_on_conversion())
    assert before == after
    assert type(torch.zeros(1)) is torch.Tensor


def test_a_backward_pass_runs_in_another_thread_and_its_errors_arrive_here(gpu):
    leaf = torch.ones(3, device="cuda", requires_grad=True)
    seen = []
    (leaf * 2).sum().backward()
    leaf.register_hook(lambda gradient: seen.append((threading.current_thread(), float(gradient.sum()))))
    (leaf * 2).sum().backward()
    assert leaf.grad.tolist() == [4.0] * 3
    ((thread, total),) = seen
    assert (thread is threading.current_thread(), total) == (False, 6.0)
    leaf.register_hook(lambda gradient: gradient + torch.ones(3))
    with pytest.raises(RuntimeError, match=DEVICES):
        (leaf * 2).sum().backward()
