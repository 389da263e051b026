"""What the units of several bases do on a text of one's own. Needs the model, so it needs torch.

Imported by *Your text* only, and there only once it has something to compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from interp.errors import ConfigError, DataError, FormatError
from interp.features import Basis, NeuronBasis, find_bases
from interp.features.table import UnitTable
from interp.models import LoadedModel
from interp.store import ActivationStore
from interp.workspace import Workspace


@dataclass(frozen=True)
class Reading:
    """A text as the model read it, and each basis' units on it."""

    ids: list[int]
    pieces: list[str]
    activations: dict[str, np.ndarray]
    """Per basis, ``[tokens, units]``."""


def read(
    model: LoadedModel, store: ActivationStore, site: str, bases: Sequence[Basis], text: str
) -> Reading:
    """Run the model over a text and encode its activations in every basis.

    The window begins as those of the store do, so a unit sees here what it was measured on.

    Raises:
        ConfigError: the model has no tokenizer, or the text does not fit its context window.
        DataError: the text holds no token, or a basis does not fit the site.
    """
    if model.tokenizer is None:
        raise ConfigError(f"{model.name} reads no text: it has no tokenizer")
    ids = model.tokenizer.encode(text)
    start = [] if store.manifest.bos is None else [store.manifest.bos]
    room = model.n_ctx - len(start)
    if not ids:
        raise DataError("the text holds no token; write a word")
    if len(ids) > room:
        raise ConfigError(
            f"the text has {len(ids):,} tokens and {model.name} reads at most {room:,} at once; "
            f"shorten it by {len(ids) - room:,}. Nothing was cut off silently"
        )
    place = model.site(site)
    tokens = torch.tensor([start + ids], device=model.device)
    vectors = model.activations(tokens, [place])[place.name][0, len(start) :].float().cpu()
    with torch.inference_mode():
        found = {basis.name: basis.encode(vectors).float().cpu().numpy() for basis in bases}
    return Reading(ids, store.vocabulary.pieces(ids), found)


def basis_of(table: UnitTable, store: ActivationStore, workspace: Workspace) -> Basis:
    """The basis that a table's units belong to.

    Raises:
        UnknownName: its dictionary is gone.
        FormatError: its dictionary was trained again since, with another number of latents.
    """
    if table.kind == "neurons":
        return NeuronBasis(table.site, store.site(table.site).width, signed=table.signed)
    seed = int(table.provenance.get("seed", 0))
    (basis,) = find_bases(store, table.site, [table.basis], workspace, seed=seed)
    if basis.n_units != table.n_units:
        raise FormatError(
            f"{table.basis} has {basis.n_units:,} units now and {table.n_units:,} in its table; "
            f"run `interp extract {store.name} {table.site}` again"
        )
    return basis


def strongest(
    activations: np.ndarray, scale: np.ndarray, count: int, token: int | None = None
) -> list[int]:
    """The units that matter most on a text, as indices.

    Args:
        activations: ``[tokens, units]``.
        scale: per unit, its largest activation over the store; a unit is ranked by the share of it
            that it reaches here. Units without one (dead ones) are left out.
        count: how many.
        token: rank by this token alone instead of the strongest one.
    """
    peak = activations.max(axis=0) if token is None else activations[token]
    share = np.where(scale > 0, peak / np.where(scale > 0, scale, 1), 0)
    order = np.argsort(-share, kind="stable")[:count]
    return [int(unit) for unit in order if share[unit] > 0]
