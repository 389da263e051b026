"""Several processes in one: a thread each, which exchange tensors in memory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from interp.sae.parallel import Mesh
from interp.sae.parallel.team import Team

T = TypeVar("T")


class ThreadTeam(Team):
    """A team whose members share this process' memory; `places` and `barrier` are the team's."""

    def __init__(self, rank: int, world: int, places: list, barrier: threading.Barrier) -> None:
        super().__init__(rank, world)
        self._places, self._barrier = places, barrier

    def gathered(self, tensor):
        self._places[self.rank] = tensor.clone()
        self._barrier.wait(20)
        found = torch.stack(list(self._places))
        self._barrier.wait(20)
        return found

    def total(self, tensor):
        return sum(self.gathered(tensor))

    def collected(self, tensor):
        whole = self.gathered(tensor).flatten(0, 1)
        return whole if self.rank == 0 else None


def on_a_grid(rows: int, latents: int, work: Callable[[Mesh], T]) -> list[T]:
    """What each of ``rows`` times ``latents`` processes makes of its mesh, in order of ranks."""
    world = rows * latents
    shared: dict[tuple, tuple] = {}

    def team(name: tuple, rank: int, size: int) -> ThreadTeam:
        places, barrier = shared.setdefault(name, ([None] * size, threading.Barrier(size)))
        return ThreadTeam(rank, size, places, barrier)

    meshes = [
        Mesh(
            everyone=team(("everyone",), rank, world),
            rows=team(("rows", rank % latents), rank // latents, rows),
            latents=team(("latents", rank // latents), rank % latents, latents),
        )
        for rank in range(world)
    ]
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(work, meshes))
