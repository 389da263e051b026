"""Which process of how many this is, from what launchers say."""

import pytest

from interp.capture.ranks import Ranks
from interp.errors import ConfigError

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
STEP = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "2"}, (0, 1, 0)),
        (TORCHRUN, (2, 4, 1)),
        (SLURM, (3, 8, 1)),
        (SLURM | STEP, (3, 8, 1)),
        (SLURM | STEP | {"SLURM_STEP_NUM_TASKS": "4"}, (3, 4, 1)),
        (SLURM | {"SLURM_JOB_ID": "9"}, (0, 1, 0)),
        (SLURM | TORCHRUN, (2, 4, 1)),
    ],
    ids=["alone", "half", "torchrun", "slurm", "srun", "a step of fewer", "batch script", "both"],
)
def test_the_launcher_says_who_this_is(environment, expected) -> None:
    found = Ranks.of_environment(environment)
    assert (found.rank, found.world, found.local) == expected


@pytest.mark.parametrize(
    "wrong", [{"RANK": "4"}, {"RANK": "-1"}, {"RANK": "two"}, {"LOCAL_RANK": "-1"}], ids=str
)
def test_what_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ConfigError, match="RANK"):
        Ranks.of_environment(TORCHRUN | wrong)
    with pytest.raises(ConfigError, match="time-out"):
        Ranks.of_environment(TORCHRUN, timeout=0.0)
