"""Which latents carry each sense of a neuron, and whether they hold up under ablation.

1. Random active rows of the neuron, by sense (`rows`). Those of a sense are split by document into
   two halves.
2. Contributions of every latent, the decoder's bias and the error on each row, exact
   (`contributions`); means over a sense's rows add up to the neuron's mean activation there.
3. Carriers of a sense: the latents with the largest mean contributions on the *first* half, as few
   as reach ``share`` of the mean activation there, at most ``carriers`` of them.
4. On the *second* half they are ablated, and random active latents of the same number and norm
   beside them (`ablation`): how much of the neuron's activation goes, here and in the rows of its
   other senses, and with the model, how much of its effect on the next token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from interp.config import to_dict
from interp.errors import ConfigError, FormatError
from interp.evaluate.causal.intervene import require_predictions
from interp.evaluate.disentangle.ablation import (
    Ablation,
    Neuron,
    effects,
    removed,
    share_removed,
)
from interp.evaluate.disentangle.config import DisentangleConfig
from interp.evaluate.disentangle.contributions import (
    Contributions,
    contributions,
    require_one_site,
)
from interp.evaluate.disentangle.rows import NONE, sense_rows, side
from interp.features.bases import DictionaryBasis
from interp.features.disentangled import CarriedSense, Disentangled
from interp.features.meanings import Sense
from interp.features.table import UnitTable
from interp.models import LoadedModel
from interp.progress import Part, Progress, silent
from interp.provenance import Provenance
from interp.store import ActivationStore

LISTED = 5
"""Latents listed of each sense; the rest is summed up."""
LEAST_DOCUMENTS = 4
"""A sense found in fewer documents is not judged: two on either side."""


@dataclass(frozen=True)
class _Group:
    """The rows of one sense."""

    number: int
    rows: Int64[np.ndarray, " n"]
    x: Float32[np.ndarray, "n width"]
    parts: Contributions
    carriers: Int64[np.ndarray, " carriers"]
    judged: Int64[np.ndarray, " m"]
    """Places of the second half among the rows."""


def disentangle(
    table: UnitTable,
    index: int,
    basis: DictionaryBasis,
    store: ActivationStore,
    *,
    model: LoadedModel | None = None,
    config: DisentangleConfig | None = None,
    progress: Progress = silent,
) -> Disentangled:
    """Take a neuron apart into the latents of a dictionary of the same site, sense by sense.

    Args:
        table: unit table of the neurons of a site.
        index: the unit's index in it.
        basis: a dictionary of that site.
        store: the store the table was made from.
        model: the store's model; without it the effect on the next token is left out.
        config: settings; the defaults if None.
        progress: told the rows read, then the senses judged.

    Raises:
        ConfigError: the table is not one of neurons, or the dictionary not one of that site alone,
            or the model not the store's.
        FormatError: there is no such unit, or the store is not the table's.
        DataError: the neuron has no senses.
    """
    settings = config or DisentangleConfig()
    _check(table, index, basis, store, model)
    found = sense_rows(store, table, index, settings, progress)
    neuron = Neuron(*side(table, index))
    groups = [
        _group(number, rows, basis, store, neuron, settings)
        for number, rows in found.rows.items()
        if len(rows)
    ]
    latents = _listed(groups)
    judge = _Judge(basis, store, neuron, model, settings, groups)
    carried: list[CarriedSense] = []
    for done, group in enumerate(groups):
        progress(done, len(groups), "ablating")
        part = Part(progress, done, len(groups))
        carried.append(
            CarriedSense(
                sense=None if group.number == NONE else group.number,
                share=_share(found.senses, group.number),
                exemplar=-1 if group.number == NONE else found.senses[group.number].exemplar,
                **_means(group.parts, latents),
                **judge(group, part),
            )
        )
    progress(len(groups), len(groups), "ablating")
    parents = {store.name: store.digest, table.path.name: table.key, basis.name: basis.fingerprint}
    if model is not None:
        parents[model.name] = model.digest
    return Disentangled(
        model=table.model,
        site=table.site,
        basis=table.basis,
        index=index,
        dictionary=basis.name,
        latents=tuple(latents.tolist()),
        senses=tuple(carried),
        agreement=found.agreement,
        table=table.key,
        config=to_dict(settings),
        provenance=Provenance(
            job="disentangle", seed=settings.seed, config=to_dict(settings), parents=parents
        ).to_dict(),
    )


def _check(
    table: UnitTable,
    index: int,
    basis: DictionaryBasis,
    store: ActivationStore,
    model: LoadedModel | None,
) -> None:
    table.check(index)
    if table.kind != "neurons":
        raise ConfigError(
            f"{table.model}/{table.site}/{table.basis} holds no neurons, and latents are what "
            "neurons are taken apart into; choose a unit of the basis neurons"
        )
    require_one_site(basis)
    if basis.site != table.site:
        raise ConfigError(
            f"{basis.name} is a dictionary of {basis.site}, not of {table.site}; choose one of the "
            "neuron's own site"
        )
    if store.digest != table.store_digest:
        raise FormatError(
            f"store {store.name!r} is not the one this unit table was made from; run "
            f"`interp extract {store.name} {table.site}` again"
        )
    if model is not None:
        require_predictions(model)
        if model.name != store.model:
            raise ConfigError(
                f"store {store.name} was captured from {store.model}, not from {model.name}; load "
                f"{store.model}"
            )


def _group(
    number: int,
    rows: Int64[np.ndarray, " n"],
    basis: DictionaryBasis,
    store: ActivationStore,
    neuron: Neuron,
    config: DisentangleConfig,
) -> _Group:
    x = store.take(basis.site, rows)
    parts = contributions(basis, x, neuron.index, neuron.sign)
    # Whole documents, in random order, go by turns to either half.
    documents = np.unique(store.document_index[rows])
    draw = np.random.default_rng([config.seed, 0x4A1F, number + 1]).permutation(documents)
    second = np.isin(store.document_index[rows], draw[1::2])
    if number == NONE or len(documents) < LEAST_DOCUMENTS:
        return _Group(number, rows, x, parts, np.zeros(0, np.int64), np.zeros(0, np.int64))
    carriers = _carriers(parts, np.flatnonzero(~second), config)
    return _Group(number, rows, x, parts, carriers, np.flatnonzero(second))


def _carriers(
    parts: Contributions, rows: Int64[np.ndarray, " n"], config: DisentangleConfig
) -> Int64[np.ndarray, " carriers"]:
    mean: Float64[np.ndarray, " m"] = parts.each[rows].mean(axis=0)
    order = np.argsort(-mean, kind="stable")[: config.carriers]
    order = order[mean[order] > 0]
    reached = np.cumsum(mean[order]) >= config.share * parts.activation[rows].mean()
    enough = int(reached.argmax()) + 1 if reached.any() else len(order)
    return parts.latents[order[:enough]].astype(np.int64)


def _listed(groups: list[_Group]) -> Int64[np.ndarray, " latents"]:
    """The largest latents of every sense and all carriers, each once, by sense."""
    chosen: dict[int, None] = {}
    for group in groups:
        mean = group.parts.each.mean(axis=0)
        largest = np.argsort(-np.abs(mean), kind="stable")[:LISTED]
        for latent in [*group.carriers.tolist(), *group.parts.latents[largest].tolist()]:
            chosen[latent] = None
    return np.array(list(chosen), np.int64)


def _share(senses: Sequence[Sense], number: int) -> float:
    if number == NONE:
        return max(1 - sum(sense.share for sense in senses), 0.0)
    return senses[number].share


def _means(parts: Contributions, latents: Int64[np.ndarray, " latents"]) -> dict[str, Any]:
    """What the record says of a sense's rows: means that add up."""
    place = {int(latent): at for at, latent in enumerate(parts.latents)}
    each = np.zeros((len(parts.activation), len(latents)))
    active = np.zeros(len(latents))
    for at, latent in enumerate(latents.tolist()):
        if latent in place:
            each[:, at] = parts.each[:, place[latent]]
            active[at] = (parts.z[:, place[latent]] > 0).mean()
    mean = each.mean(axis=0)
    return {
        "rows": len(parts.activation),
        "activation": float(parts.activation.mean()),
        "contributions": tuple(mean.tolist()),
        "active": tuple(active.tolist()),
        "others": float(parts.each.sum(axis=1).mean() - mean.sum()),
        "bias": parts.bias,
        "error": float(parts.error.mean()),
    }


class _Judge:
    """Tries a sense's carriers on the rows that did not choose them."""

    def __init__(
        self,
        basis: DictionaryBasis,
        store: ActivationStore,
        neuron: Neuron,
        model: LoadedModel | None,
        config: DisentangleConfig,
        groups: list[_Group],
    ) -> None:
        """For the senses of one neuron."""
        self._ablation, self._site = Ablation(basis), basis.site
        self._store, self._neuron, self._model = store, neuron, model
        self._config = config
        self._senses = [group for group in groups if group.number != NONE]

    def __call__(self, group: _Group, progress: Progress) -> dict[str, Any]:
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

    def _rows(self, group: _Group) -> Tensor:
        return torch.from_numpy(group.x[group.judged])

    def _removed_in(self, other: _Group, carriers: Int64[np.ndarray, " carriers"]) -> float | None:
        if not len(other.judged):
            return None
        return share_removed(self._ablation, self._neuron, self._rows(other), carriers)

    def _effects(self, group: _Group, progress: Progress) -> dict[str, Any]:
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
