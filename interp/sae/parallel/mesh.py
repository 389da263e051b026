"""Which processes divide the rows of a batch, and which the latents."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import distributed as dist

from interp.errors import ConfigError, ResourceError
from interp.sae.parallel.team import Team

TIMEOUT = timedelta(hours=2)
"""How long to wait for another process; one that ends is noticed at once."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A grid of processes: in a row of it they share rows of a batch, in a column the latents.

    Process r of a grid that divides the latents among m has the m's part number r mod m, of the
    batch's rows part number r div m.
    """

    everyone: Team = field(default_factory=Team)
    rows: Team = field(default_factory=Team)
    """Those with the same latents, each with other rows of the batch."""
    latents: Team = field(default_factory=Team)
    """Those with the same rows, each with other latents."""

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.everyone.world == 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.everyone.rank == 0

    @classmethod
    @contextmanager
    def joined(
        cls, rank: int, world: int, device: torch.device, *, latents: int = 1
    ) -> Generator["Mesh", None, None]:
        """Join the other processes, gloo for a CPU and NCCL for a GPU, and leave them at the end.

        Where they meet is said by MASTER_ADDR and MASTER_PORT, which torchrun sets. A default
        process group that there is already is used, and stays; for a GPU it needs gloo besides.

        Args:
            rank: this process' number.
            world: how many there are.
            device: this process' device, on a GPU with its number.
            latents: among how many of them the latents are divided.

        Raises:
            ConfigError: ``world`` is no multiple of ``latents``, or nothing says where they meet.
            ResourceError: they cannot be reached.
        """
        if latents < 1 or world % latents:
            raise ConfigError(
                f"latents cannot be divided among {latents} of {world} processes; start a "
                f"multiple of {latents} with torchrun --nproc-per-node"
            )
        if world == 1:
            yield ALONE
            return
        own = not dist.is_initialized()
        if own and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise ConfigError(
                f"nothing says where the {world} processes meet; set MASTER_ADDR and MASTER_PORT, "
                "or start them with torchrun"
            )
        if device.type == "cuda":
            torch.cuda.set_device(device)
        kind = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            if own:
                dist.init_process_group(kind, rank=rank, world_size=world, timeout=TIMEOUT)
        except RuntimeError as error:
            raise ResourceError(
                f"the {world} processes do not find each other at {os.environ['MASTER_ADDR']}:"
                f"{os.environ['MASTER_PORT']} ({error}); check the launcher"
            ) from error
        try:
            yield cls(
                everyone=Team(rank, world, dist.group.WORLD),
                rows=_team(rank, [range(m, world, latents) for m in range(latents)]),
                latents=_team(rank, [range(n, n + latents) for n in range(0, world, latents)]),
            )
        finally:
            if own:
                dist.destroy_process_group()


def _team(rank: int, groups: list[range]) -> Team:
    """This process' team; every process must make all groups, in the same order."""
    made = [dist.new_group(list(ranks), timeout=TIMEOUT) for ranks in groups]
    pairs = zip(groups, made, strict=True)
    return next(Team(g.index(rank), len(g), group) for g, group in pairs if rank in g)


ALONE = Mesh()
