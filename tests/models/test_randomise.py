"""The control of any model: what its randomised form keeps, and what it does not."""

import pytest
import torch

from interp.models import load_model
from interp.models.check import check_model
from interp.models.randomise import RANDOM
from tests.models.tiny import save_tiny


def matrices(model) -> dict[str, torch.Tensor]:
    """The blocks' weight matrices, by name."""
    return {
        f"{block.path}.{name}": weight.detach()
        for block in model.blocks
        for name, weight in model.bridge.get_submodule(block.path).named_parameters()
        if weight.dim() >= 2
    }


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "bert", "t5"])
def test_blocks_are_drawn_anew_and_all_else_stays(family: str, tmp_path) -> None:
    save_tiny(family, folder := tmp_path / family)
    trained, random = load_model(str(folder)), load_model(f"{folder}{RANDOM}")
    assert random.name == f"{family}{RANDOM}"
    assert random.digest != trained.digest
    before, after = matrices(trained), matrices(random)
    assert len(before) >= 4 * len(trained.blocks)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        drawn, size = after[name], weight.numel()
        both = torch.stack([weight.flatten(), drawn.flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 5 / size**0.5, name
        assert float(drawn.std() / weight.std()) == pytest.approx(1, abs=4 / size**0.5), name
        off = float((drawn.mean() - weight.mean()) / weight.std())
        assert abs(off) < 5 / size**0.5, name
    changed = {id(weight) for weight in matrices_in_place(random)}
    kept = dict(trained.bridge.named_parameters())
    for name, weight in random.bridge.named_parameters():
        if id(weight) not in changed:
            assert torch.equal(weight, kept[name]), name
    tokens = torch.randint(3, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = random.forward(tokens)
        assert torch.equal(logits, load_model(f"{folder}{RANDOM}").forward(tokens))
        assert torch.isfinite(logits).all()
        assert float((logits - trained.forward(tokens)).std()) > 0.1


def matrices_in_place(model) -> list[torch.nn.Parameter]:
    return [
        weight
        for block in model.blocks
        for weight in model.bridge.get_submodule(block.path).parameters()
        if weight.dim() >= 2
    ]


def test_hooks_hold_in_it_as_in_any_other(tmp_path) -> None:
    save_tiny("llama", folder := tmp_path / "llama")
    checks = check_model(load_model(f"{folder}{RANDOM}"))
    assert sum(each.passed is True for each in checks) >= 3
    assert all(each.passed is not False for each in checks)
