"""SAELens' step: `SAETrainer.step` on rows at hand.

Penalties weigh what ours do by default: its errors are not divided by the variance of the rows.
"""

from typing import Any

import loop
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer


def build(settings: dict[str, Any]) -> Any:
    latents, k, warm = settings["latents"], settings["k"], settings["sparsity_warmup"]
    spread, strength = settings["variance"], settings["strength"]
    shares = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1)
    l1 = {"l1_coefficient": 0.2 * strength * spread**0.5, "l1_warm_up_steps": warm}
    cls, config, own = {
        "topk": (TopKTrainingSAE, TopKTrainingSAEConfig, {"k": k}),
        "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, {"k": k}),
        "matryoshka": (
            MatryoshkaBatchTopKTrainingSAE,
            MatryoshkaBatchTopKTrainingSAEConfig,
            {"k": k, "matryoshka_widths": [int(share * latents) for share in shares]},
        ),
        "jumprelu": (
            JumpReLUTrainingSAE,
            JumpReLUTrainingSAEConfig,
            {"l0_coefficient": 3e-3 * strength * spread, "l0_warm_up_steps": warm},
        ),
        "l1": (StandardTrainingSAE, StandardTrainingSAEConfig, l1),
        "gated": (GatedTrainingSAE, GatedTrainingSAEConfig, l1),
    }[settings["kind"]]
    return cls(config(d_in=settings["d_in"], d_sae=latents, device="cpu", **own))


class SAELens:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.sae = build(settings)
        batch = settings["batch"]
        config = SAETrainerConfig(
            total_training_samples=100_000 * batch,
            train_batch_size_samples=batch,
            lr=settings["lr"],
            lr_end=settings["lr"],
            dead_feature_window=settings["dead_after"] // batch,
        )
        self.trainer = SAETrainer(config, self.sae, iter(()))

    def step(self, x: torch.Tensor) -> None:
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def explain(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z, _ = self.sae.encode_with_hidden_pre(x)
        return self.sae.decode(z), z


loop.main(SAELens)
