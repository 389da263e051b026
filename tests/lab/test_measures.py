"""What results compute on the way, against plain formulas."""

import numpy as np
import pytest
import torch

from interp.lab.results.absolute_value import motifs
from interp.lab.results.adversarial import attack
from interp.lab.results.pentagon import is_pentagon
from interp.lab.results.phase_diagram import (
    PHASES,
    computed_phases,
    expected_losses,
    trained_phases,
)
from interp.lab.toys.fitting import evaluate
from interp.lab.toys.sampling import independent
from interp.lab.toys.superposition import Superposition


def test_pentagons_are_recognised_whatever_their_turn_and_size():
    turn = 2 * np.pi * np.arange(5) / 5 + 1.234
    W = np.stack([np.cos(turn), np.sin(turn)])[:, [3, 0, 4, 1, 2]]
    assert is_pentagon(1.13 * W)
    assert not is_pentagon(0.4 * W)
    bent = W.copy()
    bent[:, 0] = -bent[:, 1]
    assert not is_pentagon(bent)


COLUMNS = {
    2: {"last left out": [[1, 0]], "another left out": [[0, 1]], "last shares": [[1, -1]]},
    3: {
        "last left out": [[1, 0, 0], [0, 1, 0]],
        "another left out": [[1, 0, 0], [0, 0, 1]],
        "last shares": [[1, 0, 0], [0, 1, -1]],
        "others share": [[1, -1, 0], [0, 0, 1]],
    },
}
"""W of every phase that the closed forms know."""


@pytest.mark.parametrize(
    ("features", "density", "importance", "phase"),
    [
        (2, 0.9, 0.3, "last left out"),
        (2, 0.9, 3.0, "another left out"),
        (2, 0.1, 1.0, "last shares"),
        (2, 0.3, 0.15, "last left out"),
        (3, 0.9, 0.3, "last left out"),
        (3, 0.95, 3.0, "another left out"),
        (3, 0.1, 0.7, "last shares"),
        (3, 0.1, 1.5, "others share"),
        (3, 0.3, 0.15, "last left out"),
    ],
)
def test_the_computed_phase_has_the_least_loss_over_drawn_rows(
    features, density, importance, phase
):
    """The closed forms against the mean loss of each phase's W with its best bias."""
    draw = np.random.default_rng(0)
    shape = (400_000, features)
    x = (draw.random(shape) < density) * draw.random(shape)
    weight = np.ones(features)
    weight[-1] = importance
    losses = {}
    for name, rows in COLUMNS[features].items():
        W = np.array(rows, dtype=float)
        bias = np.where(np.linalg.norm(W, axis=0) > 0, 0, x.mean(axis=0))
        out = np.maximum(x @ W.T @ W + bias, 0)
        losses[name] = (np.square(x - out) * weight).sum(axis=1).mean()
    assert min(losses, key=losses.__getitem__) == phase
    computed = computed_phases(np.array([density]), np.array([importance]), features)
    assert PHASES[int(computed[0])] == phase


def test_the_trained_phase_is_read_off_the_columns_whatever_their_turn():
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0))).Q
    for features, phases in COLUMNS.items():
        for phase, rows in phases.items():
            W = torch.tensor(rows, dtype=torch.float32)
            W = 0.9 * (turn @ W if features > 2 else W)
            assert PHASES[int(trained_phases(W[None])[0])] == phase


def test_a_triangle_an_empty_model_and_two_left_out_are_no_phase():
    turn = 2 * torch.pi * torch.arange(3) / 3
    triangle = torch.stack([turn.cos(), turn.sin()])
    lone = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    found = trained_phases(torch.stack([triangle, torch.zeros(2, 3), lone]))
    assert [PHASES[int(each)] for each in found] == ["none of these"] * 3


def test_expected_losses_are_the_means_over_drawn_rows():
    model = Superposition(3, 3, 2, seed=2)
    density, importance = torch.tensor([0.9, 0.4, 0.1]), torch.tensor([[1.0, 1, 3]] * 3)
    found = expected_losses(model, density, importance, seed=0, rows=4000)
    sample = independent(density[:, None].expand(-1, 3).contiguous())
    drawn = evaluate(model, sample, importance, seed=1, rows=400_000)
    torch.testing.assert_close(found, drawn, rtol=0.02, atol=0)


def test_motifs_need_two_neurons_of_opposite_sign():
    W = torch.tensor([[1.0, 0, 0], [-1, 0, 0.1], [0, 2, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])
    assert motifs(W) == 2
    assert motifs(W[:5]) == 1


def test_the_attack_on_orthogonal_features_gains_exactly_its_length():
    """Without superposition x'(x + δ) - x is δ itself within the stored features: gain ε²."""
    model = Superposition(1, 4, 2)
    with torch.no_grad():
        model.W.copy_(torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0]]]))
    x = torch.tensor([[[0.5, 0.6, 0.0, 0.0], [0.7, 0.2, 0.0, 0.0]]])
    assert attack(model, x, 0.1).item() == pytest.approx(0.01, rel=1e-3)


def test_the_attack_is_the_most_harmful_row_of_the_gram_matrix():
    model = Superposition(2, 5, 3, seed=1)
    rows = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0))
    found = attack(model, rows, 0.3).numpy()
    for instance in range(2):
        W, b = (each[instance].detach().double().numpy() for each in (model.W, model.b))
        x, gram = rows[instance].double().numpy(), W.T @ W
        errors = [
            np.square(np.maximum((x + step) @ gram + b, 0) - x).sum(axis=1).mean()
            for step in [np.zeros(5), *(0.3 * row / np.linalg.norm(row) for row in gram)]
        ]
        assert found[instance] == pytest.approx(max(errors[1:]) - errors[0], rel=1e-4)
