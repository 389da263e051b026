"""Toys built on TransformerLens' HookedRootModule."""

import numpy as np
import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import interp
from interp.capture.tables import open_table
from interp.errors import ConfigError
from interp.features.table import UnitTable
from interp.models import wrap_module
from interp.store.imports import import_activations
from interp.workspace import Workspace


class Superposition(HookedRootModule):
    """Features squeezed into fewer dimensions (Elhage et al. 2022, 2209.10652)."""

    def __init__(self, features: int = 12, hidden: int = 5) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(features, hidden) * 0.3)
        self.b = nn.Parameter(torch.zeros(features))
        self.hook_hidden, self.hook_pre, self.hook_out = HookPoint(), HookPoint(), HookPoint()
        self.hook_unused = HookPoint()
        self.setup()

    def forward(self, x):
        pre = self.hook_pre(self.hook_hidden(x @ self.W) @ self.W.T + self.b)
        return self.hook_out(torch.relu(pre))


def test_a_toys_sites_are_its_hook_points() -> None:
    torch.manual_seed(0)
    toy, x = Superposition(), torch.rand(7, 12)
    model = interp.wrap_module(toy, name="tms", example=x)
    widths = {site.name: site.width for site in model.sites().values()}
    assert widths == {"hook_hidden": 5, "hook_pre": 12, "hook_out": 12}  # what does not run is none
    found = model.activations(x, model.find_sites(["hook_*"]))
    weights, bias = toy.W.detach(), toy.b.detach()
    torch.testing.assert_close(found["hook_hidden"][:, 0], x @ weights)
    torch.testing.assert_close(found["hook_out"][:, 0], (x @ weights @ weights.T + bias).relu())
    _, cache = toy.run_with_cache(x)
    for name, value in found.items():
        assert torch.equal(value[:, 0], cache[name])
    with model.substitute(model.site("hook_hidden"), torch.zeros_like):
        assert torch.equal(model.forward(x), bias.relu().expand(7, 12))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in toy.modules())
    assert wrap_module(toy, name="tms", sites=["hook_pre"], example=x).sites().keys() == {
        "hook_pre"
    }
    with pytest.raises(ConfigError, match=r"plain has no hook points .*give wrap_module\(sites="):
        wrap_module(nn.Linear(2, 2), name="plain")


class Attention(HookedRootModule):
    """Heads on an axis of their own, as TransformerLens has them."""

    def __init__(self) -> None:
        super().__init__()
        self.hook_z, self.hook_pattern = HookPoint(), HookPoint()
        self.setup()

    def forward(self, x):
        heads = x.unflatten(-1, (3, 2))
        pattern = self.hook_pattern(torch.einsum("bqhd,bkhd->bhqk", heads, heads).softmax(-1))
        return self.hook_z(torch.einsum("bhqk,bkhd->bqhd", pattern, heads)).flatten(2)


def test_heads_stand_side_by_side_and_patterns_are_no_sites() -> None:
    toy, x = Attention(), torch.randn(2, 5, 6)
    model = wrap_module(toy, name="toy", example=x)
    assert {site.name: site.width for site in model.sites().values()} == {"hook_z": 6}
    site = model.site("hook_z")
    plain = model.forward(x)
    assert torch.equal(model.activations(x, [site])["hook_z"], plain)
    with model.substitute(site, lambda z: z * torch.tensor([1, 1, 0, 0, 1, 1])):
        found = model.forward(x)
    assert not found[..., 2:4].any()
    assert torch.equal(found[..., [0, 1, 4, 5]], plain[..., [0, 1, 4, 5]])


def test_a_toys_units_are_browsed_like_any_others(tmp_path) -> None:
    torch.manual_seed(0)
    model = wrap_module(Superposition(), name="tms", example=torch.rand(1, 12))
    x = torch.rand(400, 12) * (torch.rand(400, 12) < 0.1)
    rows = model.activations(x, [model.site("hook_hidden")])["hook_hidden"].flatten(0, 1)
    np.save(tmp_path / "hidden.npy", rows.numpy())
    store = import_activations(
        open_table(tmp_path / "hidden.npy"), model="tms", site="hook_hidden", out=tmp_path / "store"
    )
    neurons = interp.neurons(store, "hook_hidden")
    units = interp.extract([neurons], store, workspace=Workspace.at(tmp_path))
    assert len(units) == 10  # five dimensions, each split by sign
    table = UnitTable.open(tmp_path / "units" / "tms" / "hook_hidden" / "neurons.h5")
    kept = rows.numpy()[~store.sinks].astype(np.float16)
    share = np.stack([(kept > 0).mean(0), (kept < 0).mean(0)])
    np.testing.assert_allclose(np.sort(table.column("density")), np.sort(share.ravel()), atol=1e-6)
