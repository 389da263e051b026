"""What the framework itself computes: the residual stream and the logits, without our hooks."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.base import LoadedModel


def framework_states(
    model: LoadedModel, tokens: Int[Tensor, "batch length"]
) -> tuple[
    dict[str, Float[Tensor, "batch length d_model"]], Float[Tensor, "batch length vocab"] | None
]:
    """The residual stream by site name, and the logits where they are the framework's own.

    A model from transformers is loaded a second time and asked for its ``hidden_states``. One made
    here is observed by torch's own hooks on its blocks.
    """
    if model.original is None:
        return _observed(model, tokens), None
    reference = model.original.model_again(model.device)
    if model.encoder_decoder:
        return _both_halves(model, reference, tokens)
    with torch.inference_mode():
        output: Any = reference(tokens, output_hidden_states=True)
    hidden = list(output.hidden_states)
    states = {f"resid_pre.{layer}": hidden[layer] for layer in range(model.n_layers)}
    # The last of them is behind the final norm, where there is one.
    exact = model.n_layers if model.masked else model.n_layers - 1
    states |= {f"resid_post.{layer}": hidden[layer + 1] for layer in range(exact)}
    return states, output.logits


def _both_halves(
    model: LoadedModel, reference: torch.nn.Module, tokens: Int[Tensor, "batch length"]
) -> tuple[dict[str, Float[Tensor, "batch length d_model"]], Float[Tensor, "batch length vocab"]]:
    """The same of an encoder–decoder, of which the decoder reads its start and then the window."""
    started = torch.nn.functional.pad(tokens, (1, 0), value=model.start)
    with torch.inference_mode():
        output: Any = reference(
            input_ids=tokens, decoder_input_ids=started, output_hidden_states=True
        )
    states: dict[str, Tensor] = {}
    for prefix, hidden in (
        ("enc.", output.encoder_hidden_states),
        ("dec.", [each[:, 1:] for each in output.decoder_hidden_states]),
    ):
        blocks = [block for block in model.blocks if block.prefix == prefix]
        states |= {block.site("resid_pre"): hidden[at] for at, block in enumerate(blocks)}
        # The last of them is behind the final norm.
        states |= {block.site("resid_post"): hidden[at + 1] for at, block in enumerate(blocks[:-1])}
    return states, output.logits[:, 1:]


def _observed(
    model: LoadedModel, tokens: Int[Tensor, "batch length"]
) -> dict[str, Float[Tensor, "batch length d_model"]]:
    states: dict[str, Tensor] = {}

    def watch(layer: int) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs:
                states[f"resid_pre.{layer}"] = inputs[0]
            states[f"resid_post.{layer}"] = output[0] if isinstance(output, tuple) else output

        return hook

    blocks: Any = model.bridge.blocks
    handles = [
        block.original_component.register_forward_hook(watch(layer))
        for layer, block in enumerate(blocks)
    ]
    try:
        with torch.inference_mode():
            model.run(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return states
