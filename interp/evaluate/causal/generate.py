"""Greedy continuations of a text with and without an intervention, side by side."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import ConfigError, DataError
from interp.evaluate.causal.intervene import Change, require_predictions, side_by_side
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.store.site import Site


@torch.no_grad()
def continuations(
    model: LoadedModel,
    site: Site,
    changes: Sequence[Change],
    tokens: Int[Tensor, " length"],
    *,
    steps: int = 24,
    progress: Progress = silent,
) -> list[list[int]]:
    """What the model writes after a text under each change: always the most likely token.

    The change acts at every position but the first, on what the model has written as well. Nothing
    is drawn at random, so the same call gives the same tokens.

    Args:
        model: the model.
        site: where the changes act.
        changes: one a continuation; `unchanged` among them is the baseline.
        tokens: the window to continue, BOS first where there is one.
        steps: tokens to write.
        progress: told the tokens written.

    Raises:
        ConfigError: the model predicts no next tokens, or ``steps`` is below 1.
        DataError: text and continuation together are longer than the model reads.
    """
    require_predictions(model)
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    if len(tokens) + steps - 1 > model.n_ctx:
        raise DataError(
            f"{len(tokens)} tokens and {steps} more do not fit into the {model.n_ctx} that "
            f"{model.name} reads; shorten the text"
        )
    if not changes:
        return []
    window = tokens.to(model.device).expand(len(changes), -1)
    for step in range(steps):
        with model.substitute(site, side_by_side(changes)):
            logits = model.forward(window)[:, -1]
        window = torch.cat([window, logits.argmax(dim=-1, keepdim=True)], dim=1)
        progress(step + 1, steps, "writing")
    written: list[list[int]] = window[:, len(tokens) :].tolist()
    return written
