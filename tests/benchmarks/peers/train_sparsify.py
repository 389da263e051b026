"""sparsify's step: its `SparseCoder`, and around it what its `Trainer.fit` does in a step, by Adam.

Its AuxK never reaches the encoder: the gradient of its fused encoder drops the pre-activations.
"""

from typing import Any

import loop
import torch
from sparsify import SparseCoder, SparseCoderConfig


class Sparsify:
    def __init__(self, settings: dict[str, Any]) -> None:
        config = SparseCoderConfig(num_latents=settings["latents"], k=settings["k"])
        self.sae = SparseCoder(settings["d_in"], config)
        self.adam = torch.optim.Adam(self.sae.parameters(), lr=settings["lr"])
        self.silent = torch.zeros(settings["latents"], dtype=torch.long)
        self.dead_after = settings["dead_after"]

    def step(self, x: torch.Tensor) -> None:
        self.sae.set_decoder_norm_to_unit_norm()
        out = self.sae(x, dead_mask=self.silent > self.dead_after)
        fired = torch.zeros_like(self.silent, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        (out.fvu + out.auxk_loss / 32).backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.adam.step()
        self.adam.zero_grad()
        self.silent += len(x)
        self.silent[fired] = 0

    def explain(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.sae(x)
        z = x.new_zeros(len(x), len(self.silent))
        return out.sae_out, z.scatter(1, out.latent_indices, out.latent_acts)


loop.main(Sparsify)
