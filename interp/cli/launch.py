"""Training by the processes of torchrun or srun: who they are, and which GPU is whose."""

import argparse
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

import torch

from interp.sae.parallel import Mesh


def own(args: argparse.Namespace) -> tuple[int, int, torch.device | None]:
    """This process' rank, how many there are, and its device; None is for the default."""
    device = None if args.device is None else torch.device(args.device)
    if not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        return 0, 1, device
    from interp.capture.ranks import Ranks  # brings the models' packages

    ranks = Ranks.of_environment()
    if ranks.world > 1:
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device == torch.device("cuda"):  # whichever is this process' own
            device = torch.device("cuda", ranks.local % torch.cuda.device_count())
    return ranks.rank, ranks.world, device


@contextmanager
def joined(args: argparse.Namespace) -> Generator[tuple[Mesh, torch.device | None], None, None]:
    """The processes that train together, and this one's device.

    Raises:
        ConfigError: ``--shard-latents`` does not fit their number, or they cannot meet.
        ResourceError: they do not find each other.
    """
    rank, world, device = own(args)
    if world > 1:
        # The launcher ends all processes when it is told to or one has ended; as Ctrl-C does.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    place = device or torch.device("cpu")
    with Mesh.joined(rank, world, place, latents=args.shard_latents) as mesh:
        yield mesh, device
