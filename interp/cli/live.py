"""Training without a store: on what a capture would store, computed while it is read."""

import argparse
import shlex
from typing import TYPE_CHECKING

from interp.cli.bars import bar
from interp.cli.flags import read_config
from interp.cli.launch import own
from interp.errors import ConfigError
from interp.progress import silent
from interp.store.site import JOINT
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.capture.live import LiveStore


def live_store(args: argparse.Namespace, workspace: Workspace) -> "LiveStore":
    """What ``interp capture STORE SITE`` with the flags of ``--live`` would store.

    Raises:
        ConfigError: a flag says where to write or how several processes write.
    """
    from interp.capture import CaptureConfig
    from interp.capture.live import live
    from interp.cli import verb_parser
    from interp.models import load_model

    sites = JOINT.join([args.site, *([args.target] if args.target else [])]).split(JOINT)
    asked = verb_parser("capture").parse_args([args.store, *sites, *shlex.split(args.live)])
    if asked.out:
        raise ConfigError("--live writes no store; leave out its --out")
    rank, _, device = own(args)
    model = load_model(
        asked.model,
        workspace=workspace,
        device=None if asked.device_map else asked.device or device,
        dtype=asked.model_dtype,
        revision=asked.revision,
        device_map=asked.device_map,
    )
    with bar(f"read {asked.model}", "tok", args) as told:
        return live(
            model,
            asked.sites,
            asked.corpus,
            config=read_config(CaptureConfig, asked),
            workspace=workspace,
            memory=int(args.live_memory * 1e9),
            progress=silent if rank else told,
            source=model.name if asked.revision else asked.model,
        )
