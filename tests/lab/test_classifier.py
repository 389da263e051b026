"""One net under several objectives: forward pass, losses and counts against numpy."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.lab.toys.classifier import (
    OBJECTIVES,
    Classifier,
    effective_number,
    loss,
    shares,
    told_apart,
    train,
)


@pytest.mark.parametrize("gate", ["none", "relu", "strongest"])
def test_the_net_is_the_one_written_out_by_hand(gate):
    model = Classifier(4, 2, 5, 3, 6, gate=gate, seed=1)
    with torch.no_grad():
        model.b.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    out = model(x).detach().numpy()
    for instance in (0, 5):
        W_in, W_out, b = (
            w[instance].detach().double().numpy() for w in (model.W_in, model.W_out, model.b)
        )
        h = x.double().numpy() @ W_in.T
        if gate != "none":
            h = np.maximum(h, 0)
        if gate == "strongest":
            h = np.where(h == h.max(axis=1, keepdims=True), h, 0)
        np.testing.assert_allclose(out[instance], h @ W_out.T + b, rtol=1e-4, atol=1e-5)


def test_objectives_start_alike_and_restarts_do_not():
    model = Classifier(4, 2, 5, 3, 6, gate="none", seed=1)
    assert torch.equal(model.W_in[0], model.W_in[2])
    assert not torch.equal(model.W_in[0], model.W_in[1])


def test_losses_are_the_formulas():
    z = np.random.default_rng(0).standard_normal((2, 5, 4))
    label = np.array([0, 3, 1, 1, 2])
    y = np.eye(4)[label]
    chances = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    wanted = {
        "cross-entropy": -np.log((chances * y).sum(axis=-1)),
        "brier": np.square(y - chances).sum(axis=-1),
        "relu": np.square(y - np.maximum(z, 0)).sum(axis=-1),
        "linear": np.square(y - z).sum(axis=-1),
    }
    assert tuple(wanted) == OBJECTIVES
    for objective, values in wanted.items():
        found = loss(torch.from_numpy(z), torch.from_numpy(label), objective)
        np.testing.assert_allclose(found, values.mean(axis=1))
    np.testing.assert_allclose(shares(torch.from_numpy(z), "brier"), chances)


def test_features_are_told_apart_where_one_output_alone_is_above_a_half():
    model = Classifier(4, 1, 3, 3, 3, gate="none")
    with torch.no_grad():
        model.W_in.copy_(torch.eye(3).expand(4, 3, 3))
        # Of feature 0 and 1 the own output is high; of 1 another one is as well; of 2 none is.
        model.W_out.copy_(torch.tensor([[0.6, 0.8, 0], [0, 0.9, 0], [0, 0, 0.3]]).expand(4, 3, 3))
    by_objective = dict(zip(OBJECTIVES, told_apart(model, 3)[:, 0].tolist(), strict=True))
    assert by_objective == {"cross-entropy": 0, "brier": 0, "relu": 1, "linear": 1}
    with torch.no_grad():
        model.W_out *= 20
    # Under softmax one output above a half is alone; under ReLU feature 1 still has company.
    assert told_apart(model, 3)[:, 0].tolist() == [3, 3, 2, 2]


def test_training_lowers_each_objective_by_itself():
    model = Classifier(4, 3, 4, 2, 4, gate="none", seed=0)
    x, label = torch.eye(4), torch.arange(4)
    before = torch.stack(
        [loss(z, label, each) for z, each in zip(model(x).chunk(4), OBJECTIVES, strict=True)]
    ).detach()
    after = train(model, lambda _: (x, label), steps=300, lr=0.02)
    assert after.shape == (4, 3)
    # The best of each: ReLU outputs that start at zero for every input stay there.
    assert (after.amin(dim=1) < 0.9 * before.amin(dim=1)).all()
    # Rank 2 of 4 equally likely features: the best linear squared error keeps (2 + 1) of 4 squares.
    assert after[OBJECTIVES.index("linear")].min() == pytest.approx(0.25, abs=0.02)


def test_effective_numbers():
    weights = torch.tensor([[1.0, 1, 1, 1], [5, 0, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0]])
    assert effective_number(weights).tolist() == pytest.approx([4, 1, 1.6, 0])


def test_no_size_may_be_missing():
    with pytest.raises(ConfigError, match="at least 1"):
        Classifier(4, 1, 5, 0, 6, gate="none")
