"""A store without a disk: activations are computed whenever they are wanted.

`live` gives what `capture` would have written, for whoever reads a store: the same plan, rows,
stored types, sinks and held-out documents, so that training on it gives the same weights to the
bit. A shard is computed as a whole, with the forward passes that a capture makes, because a
number's last bits depend on what was computed beside it.

1. Which rows are attention sinks depends on their norms, and which rows are visited when depends
   on the sinks; so every shard is computed once at the beginning.
2. Computed shards are kept in memory up to a budget; the one not used for longest goes first.
   Those that went are computed again when they are wanted.

Where all fit, the model reads each token once. Else training costs a pass to look at the data and
then, as its order visits blocks of 1,024 rows at random, up to a whole shard for each block: take
small shards then (``shard_rows=4096``), or capture. The half of a budget too small costs far more
than half.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from interp.capture.config import CaptureConfig
from interp.capture.job import prepare, readable
from interp.capture.plan import Plan
from interp.capture.shards import ShardRunner, find_witness
from interp.capture.work import mark_sinks, sink_rule, wide_enough
from interp.config import from_dict, to_dict
from interp.corpus import Corpus, load_corpus
from interp.errors import DataError
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.store import ActivationStore, Manifest, Site, StoredDocument, Vocabulary
from interp.store.schema import COLUMNS, STORED
from interp.workspace import Workspace

MEMORY = 4 << 30
"""Bytes of activations that are kept."""


def live(
    model: LoadedModel,
    sites: Sequence[str] | str,
    corpus: Corpus | str = "library",
    *,
    config: CaptureConfig | None = None,
    workspace: Workspace | None = None,
    memory: int = MEMORY,
    progress: Progress = silent,
    source: str = "",
    **settings: Any,
) -> "LiveStore":
    """The store that `capture` would write, computed as it is read.

    Args:
        model: as for `capture`, like all that follow.
        sites: short or canonical names.
        corpus: a corpus, or the name or path of one.
        config: the settings.
        workspace: where named corpora are.
        memory: bytes of activations that are kept.
        progress: told the tokens done of the pass that finds the attention sinks.
        source: what `load_model` was given, if that is not the model's name.
        settings: fields of `CaptureConfig` over ``config``.

    Raises:
        ConfigError: the model has no tokenizer, or the settings do not fit it.
        UnknownName: no such site, corpus or setting.
        DataError: the corpus is empty, or activations are NaN or infinite.
        ResourceError: one window does not fit into memory.
    """
    config = from_dict(CaptureConfig, {**to_dict(config or CaptureConfig()), **settings})
    places, tokenizer = readable(model, sites, config)
    place = workspace or Workspace.at()
    text = load_corpus(corpus, place) if isinstance(corpus, str) else corpus
    asked = corpus if isinstance(corpus, str) else text.name
    plan, manifest = prepare(model, places, text, config, asked=asked, source=source)
    vocabulary = Vocabulary(tokenizer.vocabulary(), tokenizer.specials)
    store = LiveStore(place, model, plan, manifest, vocabulary, config.batch_tokens, memory)
    store.begin(progress)
    return store


_FORWARD = threading.Lock()
"""Hooks are set on the model itself, so one thread at a time runs it, of whichever store: a
training that was broken off leaves one behind that still reads ahead."""


class LiveStore(ActivationStore):
    """Reads like a sealed store; `live` makes one. Several threads may read it."""

    def __init__(
        self,
        workspace: Workspace,
        model: LoadedModel,
        plan: Plan,
        manifest: Manifest,
        vocabulary: Vocabulary,
        batch_tokens: int,
        memory: int,
    ) -> None:
        """Nothing is computed yet; see `begin`."""
        super().__init__(workspace.store(model.name), manifest, "")
        self._plan, self._words, self._memory = plan, vocabulary, memory
        self._witness = find_witness(manifest.sites, model.sites())
        self._runner = ShardRunner(
            model,
            manifest.sites,
            self._witness,
            plan,
            bos=manifest.bos,
            batch_tokens=batch_tokens,
        )
        self._sinks = np.zeros(plan.rows, dtype=bool)
        self._kept: OrderedDict[int, Mapping[str, np.ndarray]] = OrderedDict()

    def begin(self, progress: Progress) -> None:
        """Compute every shard once: stored types, sinks, and as many as are kept."""
        done = 0

        def told(rows: int) -> None:
            nonlocal done
            done += rows
            progress(min(done, self.rows), self.rows, "looking for attention sinks")

        for index in range(len(self.manifest.shards)):
            with _FORWARD:
                found = self._runner.run(index, self.manifest.dtypes, told)
            if index == 0:
                dtypes = wide_enough(found, self.manifest.dtypes)
                rule = sink_rule(found, self._witness, self.manifest.bos)
                changed = dtypes != self.manifest.dtypes
                self.manifest = replace(self.manifest, dtypes=dtypes, sinks=rule)
                if changed:
                    with _FORWARD:
                        found = self._runner.run(index, dtypes, told)
            start, stop = int(self._plan.edges[index]), int(self._plan.edges[index + 1])
            positions = self._plan.positions(start, stop)
            self._sinks[start:stop] = mark_sinks(found, positions, self.manifest.sinks)
            self._keep(index, found.activations)
        asked = [self.manifest.request, self.manifest.plan, self.manifest.dtypes]
        whole = hashlib.sha256(json.dumps([*asked, "live"], sort_keys=True).encode())
        whole.update(self._sinks.tobytes())
        self.digest = whole.hexdigest()

    @cached_property
    def documents(self) -> list[StoredDocument]:
        """See `ActivationStore.documents`."""
        return self._plan.documents

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """See `ActivationStore.vocabulary`."""
        return self._words

    @cached_property
    def _columns(self) -> Mapping[str, np.ndarray]:
        found = {
            "token": self._plan.tokens,
            "document": self._plan.document_of(0, self.rows),
            "position": self._plan.positions(0, self.rows),
            "sink": self._sinks,
        }
        return {name: found[name].astype(dtype) for name, dtype in COLUMNS.items()}

    def read_stored(
        self, site: Site, start: int, stop: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """See `ActivationStore.read_stored`; computes what is not kept.

        Raises:
            DataError: the rows lie outside the store.
            ResourceError: one window does not fit into memory.
        """
        if not 0 <= start <= stop <= self.rows:
            raise DataError(f"rows {start} to {stop} are outside store {self.name} of {self.rows}")
        if out is None:
            out = np.empty((stop - start, site.width), STORED[self.manifest.dtypes[site.name]])
        filled = 0
        for index, low, high in self._parts(start, stop):
            out[filled : filled + high - low] = self._shard(index)[site.name][low:high]
            filled += high - low
        return out

    def _shard(self, index: int) -> Mapping[str, np.ndarray]:
        with _FORWARD:
            if index not in self._kept:
                found = self._runner.run(index, self.manifest.dtypes, lambda rows: None)
                self._keep(index, found.activations)
            self._kept.move_to_end(index)
            return self._kept[index]

    def _keep(self, index: int, activations: Mapping[str, np.ndarray]) -> None:
        """Keep a shard, and as many of the others as the budget allows."""
        self._kept[index] = activations
        sizes = {n: sum(a.nbytes for a in arrays.values()) for n, arrays in self._kept.items()}
        over = sum(sizes.values()) - self._memory
        for oldest in list(self._kept)[:-1]:
            if over <= 0:
                break
            del self._kept[oldest]
            over -= sizes[oldest]
