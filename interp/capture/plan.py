"""Which token of which document stands in which row, decided before any compute.

1. Each domain has its documents in an order drawn from (seed, domain), training and held-out ones
   apart.
2. The domain with the fewest tokens so far gives the next document, so that all domains have equal
   shares until the small ones are used up. Within a domain the held-out side gives it whenever it
   is below its share. A document longer than a tenth of its domain's part of the budget gives that
   much and goes to the end of its queue, so that every domain has several, and held-out ones too.
3. Documents are cut into windows of ``span`` tokens (the context less BOS), never across documents;
   the last window of a document may be shorter. Row = first row of the document + token.
4. Shards are runs of whole windows.

Everything follows from the tokens and the documents, so the plan is cheap to make again on resume,
and its hash in the manifest proves that it is the same one.
"""

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from interp.capture.config import CaptureConfig
from interp.errors import ConfigError, DataError
from interp.store import StoredDocument


@runtime_checkable
class Labelled(Protocol):
    """What the plan needs of a document; `interp.corpus.Document` is one."""

    @property
    def text(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def topic(self) -> str: ...


@dataclass(frozen=True)
class Plan:
    """The rows of a store before their activations are known."""

    tokens: UInt32[np.ndarray, " rows"]
    documents: list[StoredDocument]
    starts: Int64[np.ndarray, " windows"]
    """First row of each window."""
    edges: Int64[np.ndarray, " edges"]
    """First row of each shard, and the number of rows."""
    span: int
    """Tokens a full window, without BOS."""
    offset: int
    """Position of a window's first row: 1 where BOS stands before it, else 0."""

    @property
    def rows(self) -> int:
        """Rows of the whole store."""
        return len(self.tokens)

    @property
    def digest(self) -> str:
        """SHA-256 of which token stands in which row."""
        whole = hashlib.sha256(np.ascontiguousarray(self.tokens, "<u4").tobytes())
        whole.update(np.ascontiguousarray(self.edges, "<i8").tobytes())
        labels = [vars(document) for document in self.documents]
        whole.update(json.dumps([labels, self.span, self.offset], sort_keys=True).encode())
        return whole.hexdigest()

    def document_of(self, start: int, stop: int) -> Int64[np.ndarray, " n"]:
        """Index of the document of each row."""
        firsts = np.array([document.first_row for document in self.documents])
        return np.searchsorted(firsts, np.arange(start, stop), side="right") - 1

    def positions(self, start: int, stop: int) -> Int64[np.ndarray, " n"]:
        """Position of each row in its window."""
        rows = np.arange(start, stop)
        window = np.searchsorted(self.starts, rows, side="right") - 1
        return rows - self.starts[window] + self.offset

    def windows(self, shard: int) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """First row and length of each window of a shard."""
        low, high = int(self.edges[shard]), int(self.edges[shard + 1])
        starts = self.starts[(self.starts >= low) & (self.starts < high)]
        return starts, np.diff(np.append(starts, high))


def make_plan(
    documents: Sequence[Labelled],
    heldout: Bool[np.ndarray, " documents"],
    encode: Callable[[str], list[int]],
    config: CaptureConfig,
    *,
    bos: int | None,
    specials: Collection[int] = (),
) -> Plan:
    """Choose documents up to the token budget and lay out their rows.

    Args:
        documents: the corpus.
        heldout: which of them are kept from training.
        encode: text to token ids, without specials.
        config: the settings.
        bos: the token that begins every window, if there is one; never stored.
        specials: ids that are left out of the text wherever they occur.

    Raises:
        ConfigError: the context has no room for a token.
        DataError: the corpus has no tokens.
    """
    offset = 0 if bos is None else 1
    span = config.context - offset
    if span < 1:
        raise ConfigError(f"a context of {config.context} has no room beside BOS; use at least 2")
    parts: list[np.ndarray] = []
    chosen: list[StoredDocument] = []
    rows = 0
    drop = np.array(sorted(specials), dtype=np.int64)
    domains = len({document.domain for document in documents})
    longest = span * max(config.tokens // (10 * max(domains, 1) * span), 1)
    order = _Order(documents, heldout, config)
    for index, start in order:
        whole = np.array(encode(documents[index].text), dtype=np.int64)
        whole = whole[~np.isin(whole, drop)].astype(np.uint32)
        ids = whole[start : start + longest][: config.tokens - rows]
        order.took(len(ids), left=len(whole) > start + longest)
        if len(ids) == 0:
            continue
        source = documents[index]
        chosen.append(
            StoredDocument(
                title=source.title,
                domain=source.domain,
                language=source.language,
                licence=source.licence,
                topic=source.topic,
                heldout=bool(heldout[index]),
                first_row=rows,
                rows=len(ids),
            )
        )
        parts.append(ids)
        rows += len(ids)
        if rows == config.tokens:
            break
    if rows == 0:
        raise DataError("the corpus holds no text; choose another one with --corpus")
    starts = np.concatenate(
        [np.arange(d.first_row, d.first_row + d.rows, span, dtype=np.int64) for d in chosen]
    )
    edges = _edges(starts, rows, config.shard_rows)
    return Plan(np.concatenate(parts), chosen, starts, edges, span, offset)


class _Order:
    """Documents one at a time, from the domain that has the fewest tokens so far."""

    def __init__(
        self, documents: Sequence[Labelled], heldout: np.ndarray, config: CaptureConfig
    ) -> None:
        members: dict[str, list[int]] = defaultdict(list)
        for index, document in enumerate(documents):
            members[document.domain].append(index)
        self._share = config.heldout
        self._queues: dict[str, dict[bool, deque[tuple[int, int]]]] = {}
        for domain in sorted(members):
            # A domain's order depends on its name, not on which other domains there are.
            key = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], "big")
            draw = np.random.default_rng([config.seed, key])
            shuffled = [members[domain][i] for i in draw.permutation(len(members[domain]))]
            self._queues[domain] = {
                side: deque((index, 0) for index in shuffled if bool(heldout[index]) is side)
                for side in (False, True)
            }
        self._tokens = {domain: {False: 0, True: 0} for domain in self._queues}
        self._last = ("", False, 0, 0)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """A document and the token from which on it is wanted."""
        while self._queues:
            domain = min(self._queues, key=lambda name: (sum(self._tokens[name].values()), name))
            queues, tokens = self._queues[domain], self._tokens[domain]
            if not (queues[False] or queues[True]):
                del self._queues[domain]
                continue
            behind = tokens[True] < self._share * sum(tokens.values())
            side = bool(queues[True]) and (behind or not queues[False])
            index, start = queues[side].popleft()
            self._last = (domain, side, index, start)
            yield index, start

    def took(self, tokens: int, *, left: bool) -> None:
        """Say how many tokens the last document gave, and whether it has more."""
        domain, side, index, start = self._last
        self._tokens[domain][side] += tokens
        if left:
            self._queues[domain][side].append((index, start + tokens))


def _edges(starts: np.ndarray, rows: int, shard_rows: int) -> np.ndarray:
    """Shards of whole windows, each as near below ``shard_rows`` as they allow."""
    edges = [0]
    bounds = np.append(starts, rows)
    while edges[-1] < rows:
        fit = int(np.searchsorted(bounds, edges[-1] + shard_rows, side="right")) - 1
        edges.append(int(bounds[fit]))
    return np.array(edges, dtype=np.int64)
