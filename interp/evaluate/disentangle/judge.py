"""Tries a sense's carriers by ablation, on the rows that did not choose them.

See `interp.evaluate.disentangle.disentangle`, step 4.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from interp.evaluate.disentangle.ablation import (
    Ablation,
    Neuron,
    effects,
    removed,
    share_removed,
)
from interp.evaluate.disentangle.config import DisentangleConfig
from interp.evaluate.disentangle.group import Group
from interp.evaluate.disentangle.rows import NONE
from interp.features.bases import DictionaryBasis
from interp.models import LoadedModel
from interp.progress import Progress
from interp.store import ActivationStore


class Judge:
    """Tries a sense's carriers on the rows that did not choose them."""

    def __init__(
        self,
        basis: DictionaryBasis,
        store: ActivationStore,
        neuron: Neuron,
        model: LoadedModel | None,
        config: DisentangleConfig,
        groups: list[Group],
    ) -> None:
        """For the senses of one neuron."""
        self._ablation, self._site = Ablation(basis), basis.site
        self._store, self._neuron, self._model = store, neuron, model
        self._config = config
        self._senses = [group for group in groups if group.number != NONE]

    def __call__(self, group: Group, progress: Progress) -> dict[str, Any]:
        """What the record says of it; nothing where there are too few documents to try."""
        if not len(group.carriers) or not len(group.judged):
            return {}
        config, carriers = self._config, group.carriers
        here = removed(
            self._ablation,
            self._neuron,
            self._rows(group),
            carriers,
            self._store.document_index[group.rows[group.judged]].astype(np.int64),
            config.controls,
            config.seed,
        )
        return {
            "carriers": tuple(carriers.tolist()),
            "judged": len(group.judged),
            "removed": here,
            "removed_in": tuple(self._removed_in(other, carriers) for other in self._senses),
            **self._effects(group, progress),
        }

    def _rows(self, group: Group) -> Tensor:
        return torch.from_numpy(group.x[group.judged])

    def _removed_in(self, other: Group, carriers: Int64[np.ndarray, " carriers"]) -> float | None:
        if not len(other.judged):
            return None
        return share_removed(self._ablation, self._neuron, self._rows(other), carriers)

    def _effects(self, group: Group, progress: Progress) -> dict[str, Any]:
        if self._model is None:
            return {}
        draw = np.random.default_rng([self._config.seed, 0xEF, group.number])
        some = np.sort(draw.permutation(group.judged)[: self._config.effects])
        tried = effects(
            self._model,
            self._store,
            self._ablation,
            self._model.site(self._site),
            self._neuron,
            group.rows[some],
            group.carriers,
            self._config.effect_controls,
            self._config.seed,
            progress,
        )
        return vars(tried)
