"""That a step on a GPU does not wait for the device, seen on a CPU by what it dispatches."""

from typing import Literal

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from interp.sae.kernels import (
    Rule,
    backends,
    tritonlaunch,
    tritonupdate,
)
from interp.sae.kernels import tritonlists as lists
from interp.sae.kernels import tritonselect as selection
from interp.sae.kernels.update import Adam
from tests.sae import test_kernels as proofs
from tests.sae.interpreted import quick  # noqa: F401 - a fixture; skips where there is no Triton

Per = Literal["row", "batch"]


class Waits(TorchDispatchMode):
    """Notes every operation that a host cannot start without a number from the device.

    That is one whose result is a number of the host's, or has a shape that depends on the data:
    also what must not happen while a CUDA graph is captured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        needs = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        name = str(func.overloadpacket)
        if name in ("aten.index", "aten.index_put", "aten.index_put_"):  # a mask's length
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            waits = bool(masks) and (len(args) == 2 or args[2].numel() > 1)  # one value fills it
        else:
            waits = bool(needs & set(func.tags))
        self.seen += [name] * waits
        return func(*args, **(kwargs or {}))


@pytest.fixture
def kernels_apart(monkeypatch):
    """The interpreter's own work is none of a GPU's."""

    def launch(*args, **settings):
        with _disable_current_modes():
            tritonlaunch.launch(*args, **settings)

    for part in (selection, lists, tritonupdate):
        monkeypatch.setattr(part, "launch", launch)


@pytest.mark.parametrize(("name", "dtype"), [("triton", torch.float64), ("triton-bfloat16", None)])
@pytest.mark.parametrize(("per", "waited"), [("row", []), ("batch", ["aten._local_scalar_dense"])])
def test_only_the_batch_rule_waits_for_the_device_and_once(
    name: str, dtype, per: Per, waited: list[str], kernels_apart
) -> None:
    weights, x, dead = proofs.problem(5, n=2, d_in=3, latents=8, dtype=dtype or torch.float32)
    rule = Rule(k=2, per=per, aux_k=2, aux_coefficient=1 / 32)
    backend = backends()[name]()
    backend.step(weights, x, rule, 3.0, dead)  # from now on the batch rule has a guess
    with Waits() as waits:
        found = backend.step(weights, x, rule, 3.0, dead)
        assert waits.seen == waited
        two = [tensor.encoder.float() for tensor in (weights, found.gradients)]
        moments = [torch.zeros_like(two[0]) for _ in range(2)]
        tritonupdate.update(*two, *moments, Adam(lr=0.1, step=1), unit_rows=True)
        assert waits.seen == waited


def test_whatever_waits_for_the_device_is_seen() -> None:
    x = torch.tensor([1.0, 0.0])
    with Waits() as waits:
        float(x[0])
        bool(x.any())
        x.nonzero()
        x[x > 0]
        x[x < 2] = torch.tensor([1.0, 0.0])
        x[x > 5] = 0  # needs nothing
        x.unique()
        torch.equal(x, x + 1)
        torch.where(x > 0, x, 0).sum().sqrt()  # nor does this
    assert waits.seen == [
        "aten._local_scalar_dense",
        "aten._local_scalar_dense",
        "aten.nonzero",
        "aten.index",
        "aten.index_put_",
        "aten._unique2",
        "aten.equal",
    ]
