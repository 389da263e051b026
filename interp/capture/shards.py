"""One shard of a plan: windows through the model, rows into arrays.

1. The shard's windows are sorted by length, longest first, and batched, so that little is padded;
   padding stands to the right, where a causal model does not see it, and is dropped. Widths and
   numbers of windows are rounded, so that a capture of any length has few shapes of batches.
2. One forward pass per batch reads every wanted site and stops after the deepest.
3. Rows go to their place in preallocated arrays in their stored type. Infinities that the stored
   type made of finite numbers are cut to its largest and counted; others are an error.

Attention sinks are rows whose residual stream is far longer than usual (Xiao et al. 2023,
"Efficient Streaming Language Models with Attention Sinks"; Sun et al. 2024, "Massive
Activations"): in SmolLM2 0.8 % of the rows hold 98.9 % of the variance. They are told by their
norm at one site, the witness.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from interp.capture.plan import Plan
from interp.errors import DataError, ResourceError
from interp.models import LoadedModel
from interp.models.registry import DTYPES
from interp.models.sites import kind_of
from interp.products import faster_products
from interp.store import Site
from interp.store.encoding import LARGEST, all_finite
from interp.store.publisher import not_finite
from interp.store.schema import STORED, DType

SINK_RATIO = 10.0
"""A row is a sink when its norm is this many times the median."""


@dataclass
class ShardRows:
    """What a shard's forward passes gave."""

    activations: dict[str, np.ndarray]
    """Per site ``[rows, width]`` in the stored type; bfloat16 as its bits."""
    norms: Float32[np.ndarray, " rows"] | None
    """Length of each row at the witness, if there is one."""
    overflow: dict[str, int] = field(default_factory=dict[str, int])
    """Numbers of each site that were cut."""


class ShardRunner:
    """Runs the shards of one plan; remembers how large a batch fits into memory."""

    def __init__(
        self,
        model: LoadedModel,
        sites: Sequence[Site],
        witness: Site | None,
        plan: Plan,
        *,
        bos: int | None,
        batch_tokens: int,
    ) -> None:
        self._model, self._sites, self._witness, self._plan = model, sites, witness, plan
        self._bos, self._batch_tokens = bos, batch_tokens

    def run(
        self,
        shard: int,
        dtypes: Mapping[str, DType],
        done: Callable[[int], None],
        room: dict[str, np.ndarray] | None = None,
    ) -> ShardRows:
        """Compute a shard.

        Args:
            shard: which.
            dtypes: the stored type of each site.
            done: told the rows of each batch.
            room: arrays of an earlier shard that nobody reads any more; the result may lie in
                them, as touching fresh memory takes longer than copying rows into used memory.

        Raises:
            DataError: activations are NaN or infinite.
            ResourceError: not even one window fits into memory.
        """
        first, stop = int(self._plan.edges[shard]), int(self._plan.edges[shard + 1])
        starts, lengths = self._plan.windows(shard)
        order = np.argsort(-lengths, kind="stable")
        out = ShardRows(
            {s.name: _array(room, s, stop - first, STORED[dtypes[s.name]]) for s in self._sites},
            None if self._witness is None else np.empty(stop - first, np.float32),
        )
        bad: dict[str, int] = {}
        at = 0
        while at < len(order):
            longest = min(_even(int(lengths[order[at]])), self._plan.span)
            width = longest + self._plan.offset
            batch = order[at : at + _count(self._batch_tokens // width, len(order) - at)]
            try:
                self._batch(starts[batch], lengths[batch], longest, first, dtypes, out, bad)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                self._halve(len(batch), width)
                continue
            at += len(batch)
            done(int(lengths[batch].sum()))
        for site, row in sorted(bad.items()):
            raise DataError(not_finite(site, first + row))
        return out

    def _halve(self, windows: int, width: int) -> None:
        if windows == 1:
            raise ResourceError(
                f"one window of {width} tokens of {self._model.name} does not fit into the memory "
                f"of {self._model.device}; use a shorter --context or --model-dtype bfloat16"
            )
        self._batch_tokens = max(1, windows // 2) * width
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _batch(
        self,
        starts: np.ndarray,
        lengths: np.ndarray,
        longest: int,
        first: int,
        dtypes: Mapping[str, DType],
        out: ShardRows,
        bad: dict[str, int],
    ) -> None:
        offset = self._plan.offset
        inside = np.arange(longest) < lengths[:, None]
        rows = (starts[:, None] + np.arange(longest))[inside]
        shape = (len(starts), offset + longest)
        tokens = np.full(shape, self._model.pad, np.int64)
        tokens[:, offset:][inside] = self._plan.tokens[rows]
        if self._bos is not None:
            tokens[:, 0] = self._bos
        wanted = [*self._sites]
        if self._witness is not None and self._witness not in wanted:
            wanted.append(self._witness)
        device = self._model.device
        with torch.inference_mode(), faster_products():
            read = self._model.activations(torch.from_numpy(tokens).to(device), wanted)
            keep = torch.from_numpy(inside).to(device)
            if self._witness is not None and out.norms is not None:
                norms = read[self._witness.name][:, offset:].float().norm(dim=-1)
                out.norms[rows - first] = norms[keep].cpu().numpy()
            for site in self._sites:
                values = read[site.name][:, offset:]
                ready = values
                if device.type != "cpu":  # one transfer of as few bytes as are stored
                    ready = values.to(DTYPES[dtypes[site.name]]).cpu()
                windows = zip(ready, values, starts - first, lengths, strict=True)
                for window, exact, start, length in windows:
                    self._store(
                        site.name, window[:length], exact[:length], dtypes, int(start), out, bad
                    )

    def _store(
        self,
        site: str,
        ready: Tensor,
        exact: Tensor,
        dtypes: Mapping[str, DType],
        start: int,
        out: ShardRows,
        bad: dict[str, int],
    ) -> None:
        """One window's rows to where they lie in the shard, converted on the way.

        Two tensors because they differ on a device: ``ready`` is on the CPU, ``exact`` what the
        model gave, looked at only where something does not fit.
        """
        dtype = dtypes[site]
        rows = out.activations[site][start : start + len(ready)]
        stored = _tensor(rows, dtype)
        stored.copy_(ready)
        if all_finite(rows):
            return
        values = exact.cpu()
        wrong = ~torch.isfinite(values).all(dim=-1)
        if bool(wrong.any()):
            row = start + int(wrong.nonzero()[0])
            bad[site] = min(bad.get(site, row), row)
        cut = torch.isfinite(values) & ~torch.isfinite(stored)
        out.overflow[site] = out.overflow.get(site, 0) + int(cut.sum())
        stored.copy_(values.clamp(-LARGEST[dtype], LARGEST[dtype]))


def _even(length: int, step: int = 32) -> int:
    return -(-length // step) * step


def _count(most: int, left: int) -> int:
    """Windows of the next batch: as many as fit, of the last ones a power of two.

    So few shapes ever occur: the library keeps code and memory for each shape of a product that it
    has seen, 3 MB for each shape of SmolLM2's batches, and every shard would end in a new one.
    """
    most = max(1, most)
    return most if left >= most else 1 << (left.bit_length() - 1)


def _array(
    room: dict[str, np.ndarray] | None, site: Site, rows: int, dtype: np.dtype[Any]
) -> np.ndarray:
    """An array of the room that is large enough, or else a new one, kept there."""
    kept = None if room is None else room.get(site.name)
    if kept is None or len(kept) < rows or kept.dtype != dtype:
        kept = np.empty((rows, site.width), dtype)
        if room is not None:
            room[site.name] = kept
    return kept[:rows]


def _tensor(rows: np.ndarray, dtype: DType) -> Tensor:
    if dtype == "bfloat16":
        return torch.from_numpy(rows.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(rows)


def _out_of_memory(error: BaseException) -> bool:
    # On the CPU PyTorch raises a plain RuntimeError; only its text tells.
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "not enough memory" in str(error) or "can't allocate memory" in str(error)


def find_witness(sites: Sequence[Site], known: Mapping[str, Site]) -> Site | None:
    """The residual-stream site whose norm tells attention sinks.

    The first captured one; else the stream that flows into the deepest captured block, which the
    forward pass computes anyway; None if the model has none.
    """
    for site in sites:
        if kind_of(site.name).startswith("resid_"):
            return site
    layers = [site.layer for site in sites if site.layer is not None]
    streams = [site for site in known.values() if kind_of(site.name) == "resid_pre"]
    return next((site for site in streams if layers and site.layer == max(layers)), None)
