"""What results compute on the way, against plain formulas."""

import numpy as np
import pytest
import torch

from interp.lab.results.absolute_value import motifs
from interp.lab.results.adversarial import attack
from interp.lab.results.pentagon import is_pentagon
from interp.lab.results.phase_diagram import phases
from interp.lab.toys.superposition import Superposition


def test_pentagons_are_recognised_whatever_their_turn_and_size():
    turn = 2 * np.pi * np.arange(5) / 5 + 1.234
    W = np.stack([np.cos(turn), np.sin(turn)])[:, [3, 0, 4, 1, 2]]
    assert is_pentagon(1.13 * W)
    assert not is_pentagon(0.4 * W)
    bent = W.copy()
    bent[:, 0] = -bent[:, 1]
    assert not is_pentagon(bent)


def test_phases_follow_the_least_loss_as_sampled():
    """The closed forms against the mean loss of the three models over drawn rows."""
    draw = np.random.default_rng(0)
    density = np.array([0.9, 0.9, 0.1, 0.3])
    importance = np.array([0.3, 3.0, 1.0, 0.15])
    wanted = []
    for p, weight in zip(density, importance, strict=True):
        x = (draw.random((400_000, 2)) < p) * draw.random((400_000, 2))
        first = weight * x[:, 1].var()
        second = x[:, 0].var()
        difference = x[:, 0] - x[:, 1]
        apart = np.stack([np.maximum(difference, 0), np.maximum(-difference, 0)], axis=1)
        antipodal = (np.square(x - apart) * [1, weight]).sum(axis=1).mean()
        wanted.append(1 + int(np.argmin([first, second, antipodal])))
    assert phases(density, importance).tolist() == wanted == [1, 2, 3, 1]


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
