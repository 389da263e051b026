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
from typing import Any

import numpy as np
from jaxtyping import Int64

from interp.config import to_dict
from interp.errors import ConfigError, FormatError
from interp.evaluate.causal.intervene import require_predictions
from interp.evaluate.disentangle.ablation import Neuron
from interp.evaluate.disentangle.config import DisentangleConfig
from interp.evaluate.disentangle.contributions import Contributions, require_one_site
from interp.evaluate.disentangle.group import Group, sense_group
from interp.evaluate.disentangle.judge import Judge
from interp.evaluate.disentangle.rows import NONE, sense_rows, side
from interp.features.bases import DictionaryBasis
from interp.features.disentangled import CarriedSense, Disentangled
from interp.features.meanings import Sense
from interp.features.table import UnitTable
from interp.models import LoadedModel
from interp.products import faster_products
from interp.progress import Part, Progress, silent
from interp.provenance import Provenance
from interp.store import ActivationStore

LISTED = 5
"""Latents listed of each sense; the rest is summed up."""


@faster_products()
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
        sense_group(number, rows, basis, store, neuron, settings)
        for number, rows in found.rows.items()
        if len(rows)
    ]
    latents = _listed(groups)
    judge = Judge(basis, store, neuron, model, settings, groups)
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


def _listed(groups: list[Group]) -> Int64[np.ndarray, " latents"]:
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
