"""The whole job: model, sites and corpus to a sealed activation store."""

import hashlib
import json
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from interp.capture.config import CaptureConfig
from interp.capture.plan import Plan, make_plan
from interp.capture.shards import SINK_RATIO, ShardRows, ShardRunner, find_witness
from interp.config import from_dict, to_dict
from interp.corpus import Corpus, load_corpus, split_heldout
from interp.errors import ConfigError, FormatError, StoreError, UnknownName
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.store import (
    ActivationStore,
    Manifest,
    Site,
    StoreWriter,
    Vocabulary,
    schema,
    writer,
)
from interp.workspace import Workspace


def capture(
    model: LoadedModel,
    sites: Sequence[str],
    corpus: Corpus | str = "library",
    *,
    out: str | Path | None = None,
    config: CaptureConfig | None = None,
    workspace: Workspace | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> ActivationStore:
    """Run a model over a corpus and store the activations of some sites.

    A store that is already there and was made by the same request is returned at once; one that
    was interrupted, or has lost files, is completed to the same bytes.

    Args:
        model: the model.
        sites: short or canonical names; a pattern such as ``resid_post.*`` means all that match.
        corpus: a corpus, or the name or path of one.
        out: the store's folder; by default the model's name in the workspace.
        config: the settings.
        workspace: where named corpora are and the store goes.
        progress: told the tokens done, the tokens in all, and tokens per second.
        settings: fields of `CaptureConfig`, such as ``tokens=300_000``, over ``config``.

    Returns:
        The sealed store.

    Raises:
        ConfigError: the model has no tokenizer, or the settings do not fit it.
        UnknownName: no such site, corpus or setting.
        DataError: the corpus is empty, or activations are NaN or infinite.
        StoreError: the folder holds another store, or another capture is writing it.
        ResourceError: no space is left, or one window does not fit into memory.
    """
    config = from_dict(CaptureConfig, {**to_dict(config or CaptureConfig()), **settings})
    places = find_sites(model, sites)
    if model.tokenizer is None:
        raise ConfigError(f"{model.name} has no tokenizer, so it cannot read a corpus")
    if config.context > model.n_ctx:
        raise ConfigError(
            f"{model.name} reads at most {model.n_ctx} tokens at once; use --context {model.n_ctx}"
        )
    place = workspace or Workspace.at()
    text = load_corpus(corpus, place) if isinstance(corpus, str) else corpus
    folder = Path(out).resolve() if out is not None else place.store(model.name)
    request = request_of(model, places, text, config)
    done = _finished(folder, request, config)
    if done is not None:
        progress(done.rows, done.rows, "already captured")
        return done

    documents = text.documents()
    heldout = split_heldout(documents, fraction=config.heldout, seed=config.seed)
    plan = make_plan(
        documents,
        heldout,
        model.tokenizer.encode,
        config,
        bos=model.tokenizer.bos,
        specials=model.tokenizer.specials,
    )
    manifest = Manifest(
        model=model.name,
        model_digest=model.digest,
        corpus=text.name,
        sites=tuple(places),
        dtypes={site.name: config.dtype for site in places},
        context=config.context,
        bos=model.tokenizer.bos,
        rows=plan.rows,
        shards=schema.planned(np.diff(plan.edges).tolist()),
        request=request,
        plan=plan.digest,
        provenance=Provenance(
            job="capture",
            seed=config.seed,
            config={
                "sites": [site.name for site in places],
                "model_dtype": str(model.dtype).removeprefix("torch."),
                **to_dict(config),
            },
            parents={model.name: model.digest, text.name: text.digest},
        ).to_dict(),
    )
    vocabulary = Vocabulary(model.tokenizer.vocabulary(), model.tokenizer.specials)
    with StoreWriter(folder, manifest, plan.documents, vocabulary) as store:
        _run(model, places, plan, store, config, progress)
        store.seal()
    return ActivationStore.open(folder)


def find_sites(model: LoadedModel, names: Sequence[str]) -> list[Site]:
    """The sites of a model by names or patterns, in the order given, each once.

    Raises:
        ConfigError: no names are given.
        UnknownName: a name or pattern matches nothing.
    """
    if isinstance(names, str):
        names = [names]
    known = model.sites()
    found: dict[str, Site] = {}
    for name in names:
        if set(name) & set("*?["):
            matches = [site for key, site in known.items() if fnmatchcase(key, name)]
            if not matches:
                raise UnknownName(f"site of {model.name}", name, known)
        else:
            matches = [model.site(name)]
        found.update((site.name, site) for site in matches)
    if not found:
        raise ConfigError("no site was named; `interp models sites MODEL` lists them")
    return list(found.values())


def request_of(
    model: LoadedModel, sites: Sequence[Site], corpus: Corpus, config: CaptureConfig
) -> str:
    """SHA-256 of everything that was asked for; how it is computed (batch size) is left out."""
    settings = to_dict(config)
    del settings["batch_tokens"]
    asked = {
        "model": [model.name, model.digest, str(model.dtype)],
        "sites": [vars(site) for site in sites],
        "corpus": corpus.digest,
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _finished(folder: Path, request: str, config: CaptureConfig) -> ActivationStore | None:
    """The store if it is there, sealed and complete.

    Raises:
        StoreError: it was made by another request.
    """
    if not (folder / schema.MANIFEST).exists():
        return None
    manifest = Manifest.read(folder)
    if manifest.request != request:
        before: dict[str, Any] = manifest.provenance.get("config", {})
        differ = [
            f"{name} {before[name]} there, {value} now"
            for name, value in to_dict(config).items()
            if name != "batch_tokens" and name in before and before[name] != value
        ]
        what = "; ".join(differ) or "another model, dtype, corpus or other sites"
        raise StoreError(
            f"{folder} holds another capture ({what}); choose another --out or delete it"
        )
    if manifest.state != "sealed" or not writer.is_complete(folder, manifest):
        return None
    writer.tidy(folder)  # killed between sealing and tidying
    return ActivationStore.open(folder)


def _run(
    model: LoadedModel,
    sites: Sequence[Site],
    plan: Plan,
    store: StoreWriter,
    config: CaptureConfig,
    progress: Progress,
) -> None:
    bos = store.manifest.bos
    witness = find_witness(sites, model.sites())
    runner = ShardRunner(model, sites, witness, plan, bos=bos, batch_tokens=config.batch_tokens)
    started, done, fresh = time.monotonic(), 0, 0

    def told(rows: int) -> None:
        nonlocal done, fresh
        done, fresh = done + rows, fresh + rows
        rate = fresh / max(time.monotonic() - started, 1e-9)
        progress(done, plan.rows, f"{rate:,.0f} tokens/s")

    for index, entry in enumerate(store.manifest.shards):
        if index in store.published:
            done += entry.rows
            progress(done, plan.rows, "already captured")
            continue
        found = runner.run(index, store.manifest.dtypes, told)
        if not store.manifest.sinks:
            # The first shard decides for all; the decision is recorded before the shard is.
            dtypes = dict(store.manifest.dtypes)
            too_large = [site for site in found.overflow if dtypes[site] == "float16"]
            dtypes.update({site: "bfloat16" for site in too_large})
            store.decide(dtypes=dtypes, sinks=sink_rule(found, witness, bos))
            if too_large:
                done, fresh = done - entry.rows, fresh - entry.rows
                found = runner.run(index, dtypes, told)
        start, stop = int(plan.edges[index]), int(plan.edges[index + 1])
        positions = plan.positions(start, stop)
        store.write_shard(
            index,
            token=plan.tokens[start:stop],
            document=plan.document_of(start, stop),
            position=positions,
            sink=mark_sinks(found, positions, store.manifest.sinks),
            activations=found.activations,
            overflow=found.overflow,
        )


def sink_rule(found: ShardRows, witness: Site | None, bos: int | None) -> dict[str, Any]:
    """How attention sinks are marked, measured on the first shard."""
    rule: dict[str, Any] = {"first_position": bos is None}
    parts = ["the first position of every window"] if bos is None else []
    if found.norms is not None and witness is not None:
        median = float(np.median(found.norms))
        parts.append(f"norm at {witness.name} above {SINK_RATIO:g} times the first shard's median")
        rule |= {"site": witness.name, "median": median, "threshold": SINK_RATIO * median}
    return {"rule": " or ".join(parts) or "none", **rule}


def mark_sinks(found: ShardRows, positions: np.ndarray, rule: dict[str, Any]) -> np.ndarray:
    """The rows the rule calls attention sinks."""
    sinks = np.zeros(len(positions), dtype=bool)
    if rule.get("first_position"):
        sinks |= positions == 0
    if found.norms is not None:
        if "threshold" not in rule:
            raise FormatError("the store's manifest lacks its sink threshold; capture it again")
        sinks |= found.norms > rule["threshold"]
    return sinks
