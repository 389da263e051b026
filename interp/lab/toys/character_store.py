"""Activations of character models as a store, so that every tool of the project works on them.

Several models, or one at several stages, read the same windows; each model's activations are a site
of their own, so that units are compared row by row and crosscoders join the models.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int64

from interp.errors import DataError
from interp.lab.toys.alphabet import ALPHABET
from interp.lab.toys.characters import CharacterModel
from interp.models import wrap_module
from interp.provenance import Provenance
from interp.store import ActivationStore, Manifest, Site, StoredDocument, StoreWriter, Vocabulary
from interp.store.schema import planned

PASSAGE = 16
"""Consecutive windows that make a document; the second of every ten of a text is held out."""
_BATCH = 256


def character_store(
    places: Mapping[str, tuple[CharacterModel, str]],
    texts: Mapping[str, Int64[np.ndarray, " characters"]],
    out: Path,
    *,
    windows: int,
    name: str,
    seed: int = 0,
) -> ActivationStore:
    """Write a sealed store of what models make of the same windows.

    Args:
        places: by the site's name in the store, a model and one of its hook points.
        texts: by domain; each gives as many passages, evenly spaced through it.
        out: the folder, which is new.
        windows: windows in all, rounded down to whole passages of each text.
        name: of the model in the store.
        seed: recorded.

    Raises:
        DataError: there is not one passage of each text to be had.
        ResourceError: no space is left.
    """
    length = next(iter(places.values()))[0].config.context
    tokens, domains = _passages(texts, windows // (PASSAGE * len(texts)), length)
    rows, span = tokens.size, PASSAGE * length
    arrays = {site: _read(model, hook, tokens) for site, (model, hook) in places.items()}
    settings = {"name": name, "windows": windows, "texts": list(texts), "sites": list(places)}
    digest = hashlib.sha256(json.dumps(settings).encode() + tokens.tobytes())
    for array in arrays.values():
        digest.update(array.tobytes())
    request = digest.hexdigest()
    manifest = Manifest(
        model=name,
        model_digest="",
        corpus=" and ".join(texts),
        sites=tuple(Site(site, site, array.shape[1], None) for site, array in arrays.items()),
        dtypes=dict.fromkeys(arrays, "float32"),
        context=length,
        bos=None,
        rows=rows,
        shards=planned([rows]),
        request=request,
        plan=request,
        sinks={"rule": "none"},
        provenance=Provenance(job="lab", seed=seed, config=settings).to_dict(),
    )
    documents = [
        StoredDocument(
            title=f"{domain}, passage {number}",
            domain=domain,
            language="en",
            licence="",
            topic="",
            heldout=number // len(texts) % 10 == 1,
            first_row=number * span,
            rows=span,
        )
        for number, domain in enumerate(domains)
    ]
    vocabulary = Vocabulary([character.encode() for character in ALPHABET])
    with StoreWriter(out, manifest, documents, vocabulary) as store:
        numbers = np.arange(rows)
        store.write_shard(
            0,
            token=tokens.ravel().astype(np.uint32),
            document=numbers // span,
            position=numbers % length,
            sink=np.zeros(rows, bool),
            activations=arrays,
        )
        store.seal()
    return ActivationStore.open(out)


def _passages(
    texts: Mapping[str, Int64[np.ndarray, " characters"]], passages: int, length: int
) -> tuple[Int64[np.ndarray, "window length"], list[str]]:
    """Windows, passage by passage, the texts in turn; each passage's domain."""
    span = PASSAGE * length
    shortest = min(len(ids) for ids in texts.values())
    if passages < 1 or shortest < span:
        raise DataError(
            f"a passage has {span} characters in {PASSAGE} windows; {passages} of each text were "
            f"asked for, the shortest of {shortest} characters; ask for more windows or give more "
            "text"
        )
    starts = {
        domain: np.linspace(0, len(ids) - span, passages).astype(int)
        for domain, ids in texts.items()
    }
    domains = [domain for _ in range(passages) for domain in texts]
    parts = [
        texts[domain][start : start + span]
        for group in zip(*starts.values(), strict=True)
        for domain, start in zip(texts, group, strict=True)
    ]
    stacked = np.concatenate(parts)
    return rearrange(stacked, "(window length) -> window length", length=length), domains


def _read(
    model: CharacterModel, hook: str, tokens: Int64[np.ndarray, "window length"]
) -> np.ndarray:
    """A site's activations, a row a character."""
    whole = torch.from_numpy(tokens)
    face = wrap_module(model, name="characters", sites=[hook], example=whole[:1])
    sites = [face.site(hook)]
    parts = [face.activations(part, sites)[hook] for part in whole.split(_BATCH)]
    return rearrange(torch.cat(parts), "window length width -> (window length) width").numpy()
