"""The whole job: model, sites and corpus to a sealed activation store."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.capture.config import CaptureConfig
from interp.capture.plan import Plan, make_plan
from interp.capture.ranks import Ranks
from interp.capture.work import work
from interp.config import from_dict, to_dict
from interp.corpus import Corpus, load_corpus, split_heldout
from interp.errors import ConfigError, StoreError
from interp.models import LoadedModel, Tokenizer
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.store import (
    ActivationStore,
    Manifest,
    Site,
    StoredDocument,
    StoreMember,
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
    ranks: Ranks | None = None,
    source: str = "",
    **settings: Any,
) -> ActivationStore:
    """Run a model over a corpus and store the activations of some sites.

    A store that is already there and was made by the same request is returned at once; one that
    was interrupted, or has lost files, is completed to the same bytes. Called by every process of
    a torchrun or SLURM job, each computes its share of one store, which all of them return.

    Args:
        model: the model.
        sites: short or canonical names; a pattern such as ``resid_post.*`` means all that match.
        corpus: a corpus, or the name or path of one.
        out: the store's folder; by default the model's name in the workspace.
        config: the settings.
        workspace: where named corpora are and the store goes.
        progress: told the tokens done, the tokens in all, and tokens per second; by rank 0 alone.
        ranks: which process this is of how many; by default what torchrun or SLURM says. Give
            ``Ranks()`` to capture in one process of such a job.
        source: what `load_model` was given, if that is not the model's name, as with a folder;
            recorded so that the command can be told again.
        settings: fields of `CaptureConfig`, such as ``tokens=300_000``, over ``config``.

    Returns:
        The sealed store.

    Raises:
        ConfigError: the model has no tokenizer, or the settings do not fit it.
        UnknownName: no such site, corpus or setting.
        DataError: the corpus is empty, or activations are NaN or infinite.
        StoreError: the folder holds another store, or another capture is writing it, or another
            rank has ended.
        ResourceError: no space is left, or one window does not fit into memory.
    """
    config = from_dict(CaptureConfig, {**to_dict(config or CaptureConfig()), **settings})
    places, tokenizer = readable(model, sites, config)
    ranks = ranks or Ranks.of_environment()
    if ranks.rank:
        progress = silent
    place = workspace or Workspace.at()
    text = load_corpus(corpus, place) if isinstance(corpus, str) else corpus
    folder = Path(out).resolve() if out is not None else place.store(model.name)
    request = request_of(model, places, text, config)
    done = _finished(folder, request, config, tidy=ranks.rank == 0)
    if done is not None:
        progress(done.rows, done.rows, "already captured")
        return done

    asked = corpus if isinstance(corpus, str) else text.name
    plan, manifest = prepare(model, places, text, config, asked=asked, source=source)
    vocabulary = Vocabulary(tokenizer.vocabulary(), tokenizer.specials)
    with _opened(folder, manifest, plan.documents, vocabulary, ranks) as store:
        work(model, places, plan, store, config.batch_tokens, ranks.timeout, progress)
    return ActivationStore.open(folder)


def readable(
    model: LoadedModel, sites: Sequence[str] | str, config: CaptureConfig
) -> tuple[list[Site], Tokenizer]:
    """The sites by their names, and what turns text into the model's tokens.

    Raises:
        UnknownName: no such site.
        ConfigError: the model has no tokenizer, or the settings do not fit it.
    """
    places = model.find_sites([sites] if isinstance(sites, str) else sites)
    if model.tokenizer is None:
        raise ConfigError(f"{model.name} has no tokenizer, so it cannot read a corpus")
    if config.context > model.n_ctx:
        raise ConfigError(
            f"{model.name} reads at most {model.n_ctx} tokens at once; use --context {model.n_ctx}"
        )
    return places, model.tokenizer


def prepare(
    model: LoadedModel,
    places: Sequence[Site],
    text: Corpus,
    config: CaptureConfig,
    *,
    asked: str,
    source: str = "",
) -> tuple[Plan, Manifest]:
    """Which token will stand in which row, and the manifest that a store of it begins with.

    Args:
        model: the model; it has a tokenizer.
        places: its sites.
        text: the corpus.
        config: the settings.
        asked: how the corpus was named.
        source: what `load_model` was given, if that is not the model's name.

    Raises:
        DataError: the corpus is empty.
    """
    assert model.tokenizer is not None
    documents = text.documents()
    plan = make_plan(
        documents,
        split_heldout(documents, fraction=config.heldout, seed=config.seed),
        model.tokenizer.encode,
        config,
        bos=model.tokenizer.bos,
        specials=model.tokenizer.specials,
    )
    return plan, Manifest(
        model=model.name,
        model_digest=model.digest,
        corpus=text.name,
        sites=tuple(places),
        dtypes={site.name: config.dtype for site in places},
        context=config.context,
        bos=model.tokenizer.bos,
        rows=plan.rows,
        shards=schema.planned(np.diff(plan.edges).tolist()),
        request=request_of(model, places, text, config),
        plan=plan.digest,
        provenance=Provenance(
            job="capture",
            seed=config.seed,
            config={
                "model": source or model.name,
                "corpus": asked,
                "sites": [site.name for site in places],
                "model_dtype": str(model.dtype).removeprefix("torch."),
                **to_dict(config),
            },
            parents={model.name: model.digest, text.name: text.digest},
        ).to_dict(),
    )


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


def _opened(
    folder: Path,
    manifest: Manifest,
    documents: Sequence[StoredDocument],
    vocabulary: Vocabulary,
    ranks: Ranks,
) -> StoreWriter | StoreMember:
    if ranks.rank == 0:
        return StoreWriter(folder, manifest, documents, vocabulary, world=ranks.world)
    return StoreMember(folder, manifest, rank=ranks.rank, world=ranks.world, timeout=ranks.timeout)


def _finished(
    folder: Path, request: str, config: CaptureConfig, *, tidy: bool
) -> ActivationStore | None:
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
    if tidy:  # killed between sealing and tidying
        writer.tidy(folder)
    return ActivationStore.open(folder)
