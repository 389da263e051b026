"""Modules of one's own: a small CNN that reads scikit-learn's digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import interp
from interp.errors import ConfigError, DataError, UnknownName
from interp.models import WrappedModule, wrap_module


class DigitNet(nn.Module):
    """Two convolutions, one hidden layer; works in place, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(16 * 4 * 4, 32)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        x = self.relu1(self.norm(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.out(self.drop(torch.relu(self.hidden(x.flatten(1)))))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images of 8 by 8 pixels between 0 and 1, and their digits."""
    data = load_digits()
    return (data.images[:, None] / 16), data.target


@pytest.fixture(scope="module")
def net(digits) -> DigitNet:
    """Trained on the first thousand in a second or two."""
    torch.manual_seed(0)
    images, labels = digits
    net = DigitNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    x, y = torch.from_numpy(images[:1000]).float(), torch.from_numpy(labels[:1000])
    for _ in range(8):
        for some in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[some]), y[some]).backward()
            optimizer.step()
    return net


SITES = ["conv1", "norm", "conv2", "pool", "hidden", "out@in"]


@pytest.fixture
def model(net, digits) -> WrappedModule:
    return interp.wrap_module(net, name="digit-net", sites=SITES, example=digits[0])


def accuracy(model: WrappedModule, digits) -> float:
    images, labels = digits
    found = model.forward(images[1000:]).argmax(-1).numpy()
    return float((found == labels[1000:]).mean())


def test_it_reads_digits_it_has_not_seen(model, digits) -> None:
    assert accuracy(model, digits) > 0.9


def test_the_sites_and_their_widths(model) -> None:
    widths = {name: site.width for name, site in model.sites().items()}
    assert widths == {"conv1": 8, "norm": 8, "conv2": 16, "pool": 16, "hidden": 32, "out@in": 32}
    assert model.site("conv1").layer is None
    assert [s.name for s in model.find_sites(["conv*", "out@in"])] == ["conv1", "conv2", "out@in"]
    assert (model.name, model.tokenizer) == ("digit-net", None)
    assert "6 sites" in repr(model)


def test_activations_are_those_computed_by_hand(model, net, digits) -> None:
    images = digits[0][:5]
    found = model.activations(images, list(model.sites().values()))
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    assert shapes == {
        "conv1": (5, 64, 8),
        "norm": (5, 64, 8),
        "conv2": (5, 64, 16),
        "pool": (5, 16, 16),
        "hidden": (5, 1, 32),
        "out@in": (5, 1, 32),
    }
    weights = {key: value.detach() for key, value in net.state_dict().items()}
    x = torch.from_numpy(images).float()
    conv1 = nn.functional.conv2d(x, weights["conv1.weight"], weights["conv1.bias"], padding=1)
    scale = weights["norm.weight"] / (weights["norm.running_var"] + net.norm.eps).sqrt()
    norm = (conv1 - weights["norm.running_mean"][:, None, None]) * scale[:, None, None]
    norm = norm + weights["norm.bias"][:, None, None]
    conv2 = nn.functional.conv2d(
        norm.relu(), weights["conv2.weight"], weights["conv2.bias"], padding=1
    )
    pool = nn.functional.max_pool2d(conv2.relu(), 2)
    hidden = pool.flatten(1) @ weights["hidden.weight"].T + weights["hidden.bias"]
    expected = {"conv1": conv1, "norm": norm, "conv2": conv2, "pool": pool}
    for name, value in expected.items():
        rows = value.flatten(2).transpose(1, 2)
        torch.testing.assert_close(found[name], rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["hidden"][:, 0], hidden, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["out@in"][:, 0], hidden.relu(), rtol=1e-4, atol=1e-4)
    logits = hidden.relu() @ weights["out.weight"].T + weights["out.bias"]
    torch.testing.assert_close(model.forward(images), logits, rtol=1e-4, atol=1e-4)


def test_the_module_stops_when_all_is_read(model, net, digits) -> None:
    ran = []
    handle = net.out.register_forward_hook(lambda *_: ran.append(1))
    alone = model.activations(digits[0][:3], [model.site("conv2")])["conv2"]
    assert not ran
    every = model.activations(digits[0][:3], list(model.sites().values()))["conv2"]
    assert not ran  # what goes into the last layer is the last that was asked for
    model.forward(digits[0][:3])
    handle.remove()
    assert ran == [1]
    assert torch.equal(alone, every)


def test_substitution(model, digits) -> None:
    images = digits[0][:50]
    plain = model.forward(images)
    for site in model.sites().values():
        shapes = []

        def same(x, shapes=shapes):
            shapes.append(x.shape[-1])
            return x

        with model.substitute(site, same):
            assert torch.equal(model.forward(images), plain)
        assert shapes == [site.width]
        with model.substitute(site, torch.zeros_like):
            assert not torch.allclose(model.forward(images), plain)
            assert not model.activations(images, [site])[site.name].any()
            assert accuracy(model, digits) < 0.6
        assert torch.equal(model.forward(images), plain)
    one = model.site("conv2")
    with model.substitute(one, lambda x: x * (torch.arange(16) != 3)):
        found = model.activations(images, [one])["conv2"]
    expected = model.activations(images, [one])["conv2"]
    assert not found[..., 3].any()
    assert torch.equal(found[..., 4:], expected[..., 4:])


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_nothing_is_left_behind_even_by_an_exception(model, net, digits) -> None:
    images, site = digits[0][:2], model.site("hidden")
    net.train()
    net.drop.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    model.activations(images, [site])
    with pytest.raises(ZeroDivisionError), model.substitute(site, lambda x: 1 // 0):
        model.forward(images)
    with pytest.raises(RuntimeError):
        model.activations(images[:, :, :3], [site])
    assert hooks(net) == 0
    assert net.training
    assert net.norm.training
    assert not net.drop.training
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    net.drop.train()


def test_tensors_and_arrays_of_any_dtype(model, digits) -> None:
    images, site = digits[0][:4], model.site("hidden")
    expected = model.activations(images.astype(np.float32), [site])["hidden"]
    for inputs in (images, torch.from_numpy(images), torch.from_numpy(images).half().double()):
        torch.testing.assert_close(
            model.activations(inputs, [site])["hidden"], expected, rtol=1e-2, atol=1e-2
        )


def test_the_digest_is_of_the_tensors(model, net) -> None:
    first = model.digest
    assert model.digest == first
    with torch.no_grad():
        net.out.bias[0] += 1
        assert model.digest != first
        net.out.bias[0] -= 1
    half = wrap_module(nn.Sequential(nn.Linear(2, 2)).bfloat16(), name="half", sites=["0"])
    assert len(half.digest) == 64
    assert half.dtype == torch.bfloat16


# -- names ---------------------------------------------------------------------------------------


def test_patterns_take_what_runs(net, digits) -> None:
    model = wrap_module(net, name="n", sites=["*"], example=digits[0])
    assert set(model.sites()) == {name for name, _ in net.named_modules() if name}
    assert set(wrap_module(net, name="n", sites="conv*", example=digits[0]).sites()) == {
        "conv1",
        "conv2",
    }


def test_without_an_example_the_first_input_measures(net, digits) -> None:
    model = wrap_module(net, name="n", sites=["hidden"])
    with pytest.raises(ConfigError, match=r"widths of n's sites are unknown .*example="):
        model.sites()
    model.forward(digits[0][:1])
    assert model.site("hidden").width == 32


def test_wrong_names(net, model, digits) -> None:
    with pytest.raises(UnknownName, match="unknown submodule of n 'conv3'; did you mean: conv"):
        wrap_module(net, name="n", sites=["conv3"])
    with pytest.raises(UnknownName, match="unknown site of digit-net 'conv'; did you mean: conv"):
        model.site("conv")
    with pytest.raises(UnknownName, match="'x\\*'"):
        model.find_sites(["x*"])
    with pytest.raises(ConfigError, match="no site of n was named"):
        wrap_module(net, name="n", sites=[])
    with pytest.raises(ConfigError, match="cannot name a file"):
        wrap_module(net, name="../n", sites=["conv1"])
    with pytest.raises(ConfigError, match="first.*last.*'middle'"):
        WrappedModule(net, "n", ["conv1"], channels="middle")


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scalar, self.lstm = Mean(), nn.LSTM(4, 6, batch_first=True)
        self.conv = nn.Conv1d(4, 3, 1)

    def forward(self, x):
        x = self.twice(self.twice(x))
        return self.lstm(x)[0].sum() + self.scalar(x) + self.conv(x.transpose(1, 2)).sum()


class Mean(nn.Module):
    def forward(self, x):
        return x.mean()


def test_submodules_that_are_no_sites() -> None:
    x = torch.randn(2, 5, 4)

    def wrapped(*sites, **options):
        return wrap_module(Odd(), name="odd", sites=sites, example=x, **options)

    with pytest.raises(DataError, match="twice of odd runs 2 times in one pass.*for each use"):
        wrapped("twice")
    with pytest.raises(DataError, match="never of odd does not run; leave it out"):
        wrapped("never")
    with pytest.raises(DataError, match="scalar of odd is no array of one row per input"):
        wrapped("scalar")
    assert wrapped("never*", "lstm").sites().keys() == {"lstm"}
    assert wrapped("sc*", "lstm").sites().keys() == {"lstm"}


def test_which_axis_holds_the_channels() -> None:
    x = torch.randn(2, 5, 4)
    net = Odd()
    last = wrap_module(net, name="odd", sites=["lstm", "conv"], example=x)
    first = wrap_module(net, name="odd", sites=["conv"], example=x, channels="first")
    assert {s.name: s.width for s in last.sites().values()} == {"lstm": 6, "conv": 5}
    assert first.site("conv").width == 3
    found = last.activations(x, [last.site("lstm")])["lstm"]
    expected = net.lstm(net.twice(net.twice(x)))[0]
    torch.testing.assert_close(found, expected)
    one, other = (m.activations(x, [m.site("conv")])["conv"] for m in (first, last))
    assert torch.equal(one, other.transpose(1, 2))
    with first.substitute(first.site("conv"), lambda c: c):
        assert torch.equal(first.forward(x), last.forward(x))
