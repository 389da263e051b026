"""``interp explain``: describe units by a language model that the command names."""

import argparse
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say, table
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.features.explain import Explainer

EXAMPLE = """\
  interp explain smollm2-135m resid_post.9 --basis neurons --top 50 --local smollm2-135m
  interp explain smollm2-135m resid_post.9 --basis batchtopk-4608-k32-s0 --units 812 813 \
--endpoint http://127.0.0.1:8080/v1 --llm-model qwen3-8b    # key, if any, in $INTERP_LLM_KEY"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.features.explain import ExplainConfig

    parser.add_argument("model", help="the model whose units are explained")
    parser.add_argument("site", help="the site, such as resid_post.9")
    parser.add_argument("--basis", required=True, help="neurons, or the name of another basis")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--units", nargs="+", type=int, metavar="N", help="numbers of units")
    which.add_argument("--top", type=int, metavar="N", help="the first N units by --sort")
    parser.add_argument(
        "--sort", default="monosemanticity", help="any column of the table [monosemanticity]"
    )
    parser.add_argument("--ascending", action="store_true", help="smallest first")
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument(
        "--endpoint",
        metavar="URL",
        help="an OpenAI-compatible server, to which contexts are sent; a key is read from "
        "$INTERP_LLM_KEY alone",
    )
    whom.add_argument("--local", metavar="MODEL", help="a chat model run here: smollm2-135m")
    parser.add_argument("--llm-model", default="", help="name of the model at the endpoint")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for an answer [60]")
    parser.add_argument("--device", help="of --local: cpu or cuda [cuda where there is one]")
    add_config(parser, ExplainConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.features import find_bases, open_units
    from interp.features.explain import ExplainConfig, explain_units
    from interp.store import ActivationStore

    workspace = Workspace.at(args.workspace)
    config = read_config(ExplainConfig, args)
    units = open_units(workspace, args.model, args.site, args.basis)
    (found,) = units.tables
    if args.units is None:
        ranked = units.sort(args.sort, ascending=args.ascending).head(args.top)
        wanted = [address.index for address in ranked]
    else:
        wanted = [found.check(unit) for unit in args.units]
    explainer = _explainer(args, workspace)
    store = ActivationStore.open(workspace.store(found.store))
    seed = int(found.provenance.get("seed", 0))  # of random directions
    basis = (
        find_bases(store, args.site, [args.basis], workspace, seed)[0] if config.judged else None
    )
    with bar(f"explain {args.basis}", "units", args) as progress:
        said = explain_units(
            found, wanted, store, explainer, basis=basis, config=config, progress=progress
        )
    rows: list[dict[str, Any]] = []
    for unit, each in said.items():
        judged = each.detection
        rows.append(
            {
                "address": str(found.address(unit)),
                "balanced accuracy": None if judged is None else judged.balanced_accuracy,
                "low": None if judged is None else judged.low,
                "high": None if judged is None else judged.high,
                "recall": None if judged is None else judged.recall,
                "precision": None if judged is None else judged.precision,
                "n": 0 if judged is None else judged.active + judged.silent,
                "explanation": each.text,
            }
        )
    table(args, rows)
    say(args, f"\n{len(rows)} of {len(wanted)} units have an explanation by {explainer.model}")
    say(args, "½ is chance; low and high: 95 % interval of balanced accuracy on held-out contexts")
    return {"explanations": rows}


def _explainer(args: argparse.Namespace, workspace: Workspace) -> "Explainer":
    from interp.features.explain import ChatExplainer, Endpoint

    if args.endpoint is not None:
        return ChatExplainer(Endpoint(args.endpoint, args.llm_model, timeout_s=args.timeout))
    from interp.features.explain import LocalChat  # brings the models' packages
    from interp.models import load_model

    return ChatExplainer(LocalChat(load_model(args.local, workspace=workspace, device=args.device)))
