"""`interp capture` started once a rank: one store, one voice."""

import json
import os
import subprocess
import sys
from pathlib import Path

from interp.cli import main
from tests.capture.tiny import bytes_of


def test_ranks_of_a_slurm_job_write_one_store_and_rank_0_alone_speaks(
    saved, texts, workspace
) -> None:
    command = ["capture", str(saved), "resid_post.0", "--corpus", str(texts), "--context", "10"]
    command += ["--shard-rows", "100", "--heldout", "0.3", "--rank-timeout", "60"]
    started = []
    for rank in range(2):
        slurm = {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank)}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "interp", *command, "--out", "many", "--json"],
                env={**os.environ, **slurm, "OMP_NUM_THREADS": "1"},
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [each.communicate(timeout=100) for each in started]
    assert [each.returncode for each in started] == [0, 0], said
    assert json.loads(said[0][0])["store"] == "many"
    assert said[1][0] == ""
    assert main([*command, "--out", "one"]) == 0
    assert bytes_of(workspace.store("many")) == bytes_of(workspace.store("one"))
