"""Processes that exchange tensors, by sums whose order is fixed.

An all-reduce adds in an order that depends on the library, the network and the number of bytes.
Here the sum of equal tensors is

1. each is cut into as many parts as there are processes, and part i goes to process i;
2. which adds what it got in the order of ranks;
3. and sends the sum to all.

So every process has the same bits, the same as ever, and no more bytes travel than by a ring.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from interp.errors import ResourceError


class Team:
    """Some processes; every method but `part` must be called by all of them, in the same order."""

    def __init__(self, rank: int = 0, world: int = 1, group: Any = None) -> None:
        """One process alone, or this one among those of a process group.

        Args:
            rank: its number.
            world: how many there are.
            group: of `torch.distributed`, for CPU tensors and those of its device.
        """
        self.rank, self.world, self._group = rank, world, group

    def part(self, count: int) -> slice:
        """This process' share of so many things in a row."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, added in the order of their ranks."""
        if self.world == 1:
            return tensor
        size = -(-tensor.numel() // self.world)
        sent = tensor.new_zeros(size * self.world)
        sent[: tensor.numel()] = tensor.reshape(-1)
        received = torch.empty_like(sent)
        with _others_there():
            dist.all_to_all_single(received, sent, group=self._group)
            first, *others = received.view(self.world, size)
            for other in others:
                first += other
            dist.all_gather_single(sent, first, group=self._group)
        return sent[: tensor.numel()].view_as(tensor)

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, of equal shapes, along a new first axis."""
        if self.world == 1:
            return tensor[None]
        found = tensor.new_empty(self.world * tensor.numel())
        with _others_there():
            dist.all_gather_single(found, tensor.reshape(-1).contiguous(), group=self._group)
        return found.view(self.world, *tensor.shape)

    def collected(self, tensor: Tensor) -> Tensor | None:
        """On the first process' CPU, the tensors of all, of equal shapes, one after another."""
        if self.world == 1:
            return tensor
        mine = tensor.detach().cpu().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.world)] if self.rank == 0 else None
        with _others_there():
            dist.gather(mine, parts, group=self._group, group_dst=0)
        return None if parts is None else torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether it is true for any process."""
        return self.world > 1 and bool(self.gathered(torch.tensor([flag])).any()) or flag

    def wait(self) -> None:
        """Until all are here."""
        self.any(False)


@contextmanager
def _others_there() -> Generator[None, None, None]:
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise
        raise ResourceError(
            f"another process of this training has ended or is out of reach ({_first(error)}); "
            "see its message, then run the same command again: it continues from its checkpoint"
        ) from error


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
