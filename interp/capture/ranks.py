"""Which of several processes this one is, as its launcher says; no process group is needed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from interp.errors import ConfigError

TIMEOUT = 1800.0


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that share one capture."""

    rank: int = 0
    """Its number; rank 0 begins and seals the store."""
    world: int = 1
    """How many there are."""
    local: int = 0
    """Its number on its host, which chooses its GPU."""
    timeout: float = TIMEOUT
    """Seconds without a sign of another process after which waiting for it is given up."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world or self.local < 0:
            raise ConfigError(
                f"rank {self.rank} (on its host {self.local}) of {self.world} processes cannot "
                "be; check RANK, WORLD_SIZE and LOCAL_RANK, or their SLURM counterparts"
            )
        if not self.timeout > 0:
            raise ConfigError(f"the time-out for other ranks must be above 0, got {self.timeout}")

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str] | None = None, *, timeout: float = TIMEOUT
    ) -> "Ranks":
        """As torchrun says (RANK, WORLD_SIZE, LOCAL_RANK), else SLURM's srun, else alone.

        Raises:
            ConfigError: the variables are no numbers, or do not fit each other.
        """
        given = os.environ if environment is None else environment
        if "RANK" in given and "WORLD_SIZE" in given:
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        elif "SLURM_PROCID" in given and "SLURM_NTASKS" in given:
            # The script of a batch job has these variables too, but no step: it runs once.
            if "SLURM_JOB_ID" in given and "SLURM_STEP_ID" not in given:
                return cls(timeout=timeout)
            step = "SLURM_STEP_NUM_TASKS"
            names = ("SLURM_PROCID", step if step in given else "SLURM_NTASKS", "SLURM_LOCALID")
        else:
            return cls(timeout=timeout)
        try:
            rank, world, local = (int(given.get(name, "0")) for name in names)
        except ValueError as error:
            raise ConfigError(f"{', '.join(names)} must be whole numbers ({error})") from error
        return cls(rank=rank, world=world, local=local, timeout=timeout)
