"""dictionary_learning's step: each trainer's `update` on rows at hand.

Penalties weigh what ours do by default: its errors are not divided by the variance of the rows. Its
JumpReLU has one penalty only, the squared distance of L0 from a target.
"""

from typing import Any

import loop
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer


class DictionaryLearning:
    def __init__(self, settings: dict[str, Any]) -> None:
        k, warm, strength = settings["k"], settings["sparsity_warmup"], settings["strength"]
        penalty = 0.2 * strength * settings["variance"] ** 0.5
        l1 = {"l1_penalty": penalty, "sparsity_warmup_steps": warm}
        jump = {
            "sparsity_penalty": strength,
            "target_l0": float(k),
            "sparsity_warmup_steps": warm,
        }
        groups = [1 / 32, 2 / 32, 4 / 32, 8 / 32, 17 / 32]
        self.kind = settings["kind"]
        cls, own = {
            "topk": (TopKTrainer, {"k": k}),
            "batchtopk": (BatchTopKTrainer, {"k": k}),
            "matryoshka": (MatryoshkaBatchTopKTrainer, {"k": k, "group_fractions": groups}),
            "jumprelu": (JumpReluTrainer, jump),
            "l1": (StandardTrainer, l1),
            "gated": (GatedSAETrainer, l1),
        }[self.kind]
        self.trainer = cls(
            steps=100_000,
            activation_dim=settings["d_in"],
            dict_size=settings["latents"],
            layer=0,
            lm_name="planted",
            lr=settings["lr"],
            warmup_steps=0,
            device="cpu",
            seed=settings.get("seed", 1),
            **own,
        )
        if hasattr(self.trainer, "dead_feature_threshold"):
            self.trainer.dead_feature_threshold = settings["dead_after"]
        self.done = 0

    def step(self, x: torch.Tensor) -> None:
        self.trainer.update(self.done, x)
        self.done += 1

    def explain(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ae = self.trainer.ae
        if self.kind in ("batchtopk", "matryoshka"):
            z = ae.encode(x, use_threshold=False)
        else:
            z = ae.encode(x)
        return ae.decode(z), z


loop.main(DictionaryLearning)
