"""The command line: one file a verb. ``interp VERB --help`` shows its flags and an example.

Exit codes: 0 success, 1 failure, 2 wrong use, 130 interrupted (run the same command to continue).
Only the verb that was asked for is imported, so that ``interp --help`` costs no torch.
"""

import argparse
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from interp.cli import interrupt
from interp.errors import InterpError
from interp.files import resource_error

VERBS = {
    "demo": "from nothing to browsing a real model's features",
    "models": "list, get and train models",
    "corpora": "list, get and describe corpora",
    "capture": "run a model over text and store its activations",
    "import": "make a store of activations from .npy, .pt or .safetensors",
    "plant": "make a store of rows whose true features are known",
    "train": "train a dictionary (sparse autoencoder) on stored activations",
    "bench": "time training steps side by side, ours and other trainers'",
    "fit": "fit classical baselines (PCA, ICA, NMF, dictionary learning)",
    "extract": "measure the units of neurons, dictionaries and controls",
    "units": "list the units of a site, sorted by any column",
    "scores": "set neurons, dictionaries and controls of a site side by side",
    "find": "list every place where a unit is active",
    "explain": "describe units by a language model that you name, and judge what it says",
    "disentangle": "find the latents that carry each sense of a neuron, and ablate them",
    "trace": "trace a prompt through latents to the model's next token",
    "evaluate": "judge dictionaries and baselines on held-out text",
    "lab": "reproduce published results where the truth is known",
    "verify": "check an activation store byte by byte",
    "app": "browse the workspace in a web browser, on this machine only",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in arguments if not word.startswith("-")), None)
    parser = _root()
    if verb not in VERBS or arguments[0] != verb:
        parser.parse_args(arguments)  # answers --help, --version and wrong use, and exits
        parser.print_help()
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    interrupt.wait_for_imports()
    try:
        module = _verb(verb)
        args = verb_parser(verb, module).parse_args(arguments[1:])
        result = module.run(args)
    except InterpError as error:
        print(f"interp {verb}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `interp units ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(
            f"interp {verb}: {resource_error(error, Path(error.filename or '.'))}", file=sys.stderr
        )
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        print(
            f"interp {verb}: out of memory; what was finished is kept. Close other programs or "
            "ask for less at a time, then run the same command again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            f"\ninterp {verb}: interrupted; what was finished is kept. Run the same command again "
            "to continue",
            file=sys.stderr,
        )
        return 130
    if args.json and result is not None:
        print(json.dumps(result, ensure_ascii=False))
    return 0


def _out_of_memory(error: BaseException) -> bool:
    """Python's own error, or torch's, which is a RuntimeError on every device."""
    texts = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in texts)


def _verb(verb: str) -> ModuleType:
    file = {"import": "imports"}.get(verb, verb)  # what Python reserves cannot name a module
    return importlib.import_module(f"interp.cli.{file}")


def _root() -> argparse.ArgumentParser:
    from interp.provenance import versions

    width = max(map(len, VERBS))
    listing = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="interp",
        usage="interp VERB [...]",
        description="From any model to a validated map of its features, on one's own machine.",
        epilog=f"verbs:\n{listing}\n\ninterp VERB --help shows a verb's flags and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = versions().get("interp-workbench", "not installed")
    parser.add_argument("--version", action="version", version=f"interp {version}")
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB", help="what to do")
    return parser


def verb_parser(verb: str, module: ModuleType | None = None) -> argparse.ArgumentParser:
    """The parser of one verb, with the flags that every verb has."""
    module = module or _verb(verb)
    parser = argparse.ArgumentParser(
        prog=f"interp {verb}",
        description=f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.",
        epilog=f"example:\n{module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        help="where everything is read and written [$INTERP_WORKSPACE, else ./activations]",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    module.add_flags(parser)
    return parser
