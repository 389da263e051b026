"""The control that any model has: itself with random weights.

Heap et al. 2025, "Sparse autoencoders can interpret randomly initialized transformers"
(2501.17727): dictionaries of a model that learnt nothing look interpretable too, since the text is
not random. So what a dictionary finds counts only as far as it exceeds what one of the same make
finds there. As their "re-randomized, excluding embeddings": in each block every weight matrix is
drawn anew from a normal of its own mean and deviation. Embeddings, norms and biases stay, so that
tokens still differ as they do in the trained model.
"""

import hashlib

import numpy as np
import torch

from interp.models.base import LoadedModel

RANDOM = "@random"
"""What follows a model's name to mean this."""


@torch.no_grad()
def randomised(model: LoadedModel, seed: int = 0) -> LoadedModel:
    """The model with the weight matrices of its blocks drawn anew, in place.

    Args:
        model: a trained model; of no further use itself.
        seed: of the draw, which is the same on every device.
    """
    for number, block in enumerate(model.blocks):
        for place, weight in enumerate(model.bridge.get_submodule(block.path).parameters()):
            if weight.dim() < 2:
                continue
            (key,) = np.random.SeedSequence([seed, number, place, 0x3A2D]).generate_state(1)
            normal = torch.randn(weight.shape, generator=torch.Generator().manual_seed(int(key)))
            mean, deviation = weight.double().mean(), weight.double().std()
            weight.copy_(normal * deviation.cpu() + mean.cpu())
    digest = hashlib.sha256(f"{model.digest}{RANDOM}{seed}".encode()).hexdigest()
    return LoadedModel(
        f"{model.name}{RANDOM}",
        model.bridge,
        model.tokenizer,
        digest=digest,
        headless=model.headless,
    )
