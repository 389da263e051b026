"""``interp trace``: which latents lead a model from a prompt to its next token."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config, several
from interp.cli.say import say, table
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.evaluate.causal.trace import Stage, Trace
    from interp.features.bases import DictionaryBasis

EXAMPLE = """\
  interp trace smollm2-135m resid_post.9 --prompt "The capital of France is"
  interp trace smollm2-135m resid_post.9 --prompt "Twinkle, twinkle, little" --token " star"
  interp trace shakespeare-1l mlp_post.0 --prompt "To be, or not to" --against " the" --json"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.evaluate.causal.trace import TraceConfig

    parser.add_argument("model", help="a packaged model, a folder, a GGUF file or OWNER/NAME")
    parser.add_argument(
        "sites",
        metavar="SITE[,SITE]",
        type=several(str),
        help="where latents are read; of several, edges lead from each to the next",
    )
    parser.add_argument(
        "--dictionary",
        metavar="NAME[,NAME]",
        type=several(str),
        default=[],
        help="one a site, or one name for all [the first that is finished of each]",
    )
    parser.add_argument("--prompt", required=True, help="the text the model goes on from")
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help="the next token that is explained, its space included [the likeliest]",
    )
    parser.add_argument(
        "--against",
        metavar="TEXT",
        help="the token whose logit is subtracted: the baseline [the likeliest other one]",
    )
    parser.add_argument("--out", metavar="FILE", help="where to write the trace as JSON [nowhere]")
    parser.add_argument(
        "--model-dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="precision the model computes in [float32]",
    )
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")
    add_config(parser, TraceConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.errors import ConfigError
    from interp.evaluate.causal.trace import TraceConfig, trace
    from interp.files import check_writable, write_json
    from interp.models import load_model

    workspace = Workspace.at(args.workspace)
    config = read_config(TraceConfig, args)
    if not args.prompt.strip():
        raise ConfigError("--prompt is empty; write a few words for the model to go on from")
    names: list[str | None] = args.dictionary or [None]
    if len(names) not in (1, len(args.sites)):
        raise ConfigError(
            f"--dictionary names {len(names)} dictionaries for {len(args.sites)} sites; name one a "
            "site, in their order"
        )
    if args.out:
        check_writable(Path(args.out))
    model = load_model(args.model, workspace=workspace, device=args.device, dtype=args.model_dtype)
    names = names * len(args.sites) if len(names) == 1 else names
    sources = [
        _source(workspace, model.name, model.site(site).name, name)
        for site, name in zip(args.sites, names, strict=True)
    ]
    with bar("trace", "points", args) as progress:
        found = trace(
            model,
            sources,
            args.prompt,
            token=args.token,
            baseline=args.against,
            config=config,
            progress=progress,
        )
    plain = found.to_dict()
    if args.out:
        write_json(Path(args.out), plain)
    if not args.json:
        _print(args, found)
        if args.out:
            say(args, f"\n{args.out}")
    return plain


def _source(workspace: Workspace, model: str, site: str, name: str | None) -> "DictionaryBasis":
    """A finished dictionary of a site; the first by name unless one is named.

    Raises:
        ConfigError: the name is of a dictionary of another site, or there is none at all.
        UnknownName: the site has no dictionary of that name.
    """
    from interp.errors import ConfigError, UnknownName
    from interp.features.bases import DictionaryBasis
    from interp.features.find import finished_dictionaries
    from interp.sae import load_dictionary
    from interp.sae.files import read_config as origin_of

    found = finished_dictionaries(workspace, model, site)
    within = [  # a transcoder writes elsewhere
        each for each, path in found.items() if not origin_of(path).get("origin", {}).get("target")
    ]
    remedy = f"`interp train STORE {site}` makes one."
    if name is None and not within:
        raise ConfigError(f"{model} has no finished dictionary of {site}. {remedy}")
    wanted = within[0] if name is None else name
    if wanted in found:
        return DictionaryBasis(load_dictionary(found[wanted]), wanted)
    folder = workspace.dictionary(model, site, wanted).parent.parent
    homes = sorted(path.parent.name for path in folder.glob(f"*/{wanted}"))
    if homes:
        raise ConfigError(
            f"{wanted} is a dictionary of {' and of '.join(homes)}, not of {site}; trace that site "
            f"or choose one of {site}: {', '.join(within) or '(none)'}"
        )
    raise UnknownName(f"dictionary of {site}", wanted, within, remedy)


def _print(args: argparse.Namespace, found: "Trace") -> None:
    one, other = found.target, found.baseline
    say(args, f"{found.model}: {''.join(found.tokens)!r}")
    say(
        args,
        f"goes on with {one.text!r} (p {one.probability:.3f}) rather than {other.text!r} "
        f"(p {other.probability:.3f}): logit difference {one.logit - other.logit:+.3f}",
    )
    for stage in found.stages:
        graph = stage.graph
        say(args, f"\n{stage.site}, latents of {stage.dictionary} to the logit difference\n")
        table(args, list(_nodes(found, stage)))
        say(args, f"\n{_sums(graph.to_dict())}")
        if stage.direct is None:
            say(args, "no direct path: the site does not write linearly to the residual stream")
        if stage.edges:
            say(args, f"\nedges into {stage.site}, to a latent before its threshold\n")
            table(args, list(_edges(found, stage)))


def _sums(graph: dict[str, Any]) -> str:
    """Where the actual difference went."""
    share = graph["completeness"]
    listed = sum(node["attribution"] for node in graph["nodes"])
    return (
        f"listed {listed:+.3f}, other latents {graph['others']:+.3f}, error {graph['error']:+.3f}; "
        f"actual {graph['value'] - graph['without']:+.3f} "
        f"(from {graph['without']:.3f} with the bias alone), "
        f"completeness {'-' if share is None else f'{share:.3f}'}"
    )


def _nodes(found: "Trace", stage: "Stage") -> Iterator[dict[str, Any]]:
    for at, node in enumerate(stage.graph.nodes):
        direct = stage.direct
        yield {
            "latent": str(node.latent),
            "position": str(node.position),
            "token": repr(found.tokens[node.position]),
            "activation": node.activation,
            "attribution": node.attribution,
            "direct": None if direct is None else direct.nodes[at],
            "promotes": "" if direct is None else " ".join(map(repr, direct.promoted[at])),
        }
    direct = stage.direct
    for name, attribution, straight in (
        ("others", stage.graph.others, _other_latents(stage)),
        ("error", stage.graph.error, None if direct is None else direct.error),
    ):
        yield {"latent": name, "attribution": attribution, "direct": straight} | dict.fromkeys(
            ("position", "token", "promotes"), ""
        )


def _other_latents(stage: "Stage") -> float | None:
    return None if stage.direct is None else stage.direct.latents - sum(stage.direct.nodes)


def _edges(found: "Trace", stage: "Stage") -> Iterator[dict[str, Any]]:
    for node, edge in zip(stage.graph.nodes, stage.edges, strict=True):
        plain = edge.to_dict()
        yield {
            "into": f"{node.latent} at {node.position}",
            "others": edge.others,
            "error": edge.error,
            "actual": edge.value - edge.without,
            "completeness": plain["completeness"],
            "largest": " ".join(
                f"{each.latent}@{each.position}:{each.attribution:+.3f}" for each in edge.nodes[:4]
            ),
        }
