"""Reading a transformers model's weights, all of them.

transformers draws random numbers for every tensor that the files lack and says so in a log line
alone. What such a model computes looks like results, so it is refused here.
"""

import copy
import logging
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoTokenizer

from interp.errors import FormatError

_REPORTS = "transformers.modeling_utils"
"""The logger of transformers' loading report, a table of many lines."""
_log = logging.getLogger(__name__)


class CheckedWeights:
    """Stands in for a class of transformers and reads with it, but refuses missing tensors.

    One thing may be missing: an encoder's head. A model saved without any (``BertModel``) is
    loaded into the class that has one, since TransformerLens hooks no other.
    """

    def __init__(self, kind: Any, *, masked: bool) -> None:
        """Wrap a class; ``masked``: a masked language model, whose head may be missing."""
        self._kind, self._masked = kind, masked
        self._read: tuple[str, dict[str, Any]] | None = None
        self.headless = False
        """Whether the head is missing, so that the logits mean nothing."""

    def from_pretrained(self, source: str, **settings: Any) -> Any:
        """The model.

        Raises:
            FormatError: its files lack tensors.
        """
        # Hooking changes the configuration in place; a copy serves to read it again.
        self._read = (source, copy.deepcopy(settings))
        with _quiet():
            model, info = self._kind.from_pretrained(source, output_loading_info=True, **settings)
        body = f"{model.base_model_prefix}."
        missing: set[str] = set(info["missing_keys"])
        in_body = {key for key in missing if key.startswith(body)}
        if missing and (in_body or not self._masked):
            raise FormatError(
                f"the weights of {source} lack {_listed(missing)}, which its config.json asks for; "
                "save or download the model again"
            )
        self.headless = bool(missing)
        # What another task's head left over is harmless; a left-over layer is not.
        unused = {key for key in info["unexpected_keys"] if ".layer" in key or ".h." in key}
        if unused:
            _log.warning("%s: the model does not use %s of its files", source, _listed(unused))
        return model

    def model_again(self, device: torch.device) -> torch.nn.Module:
        """The same model as transformers alone has it, without hooks."""
        source, settings = self._source()
        with _quiet():
            model = self._kind.from_pretrained(source, **settings).eval()
        return model if "device_map" in settings else model.to(device)

    def tokenizer_again(self) -> Any:
        """The tokenizer as transformers alone has it; TransformerLens fills in what is missing."""
        source, settings = self._source()
        return AutoTokenizer.from_pretrained(source, revision=settings.get("revision"))

    def _source(self) -> tuple[str, dict[str, Any]]:
        if self._read is None:
            raise RuntimeError("nothing was read yet")
        return self._read[0], copy.deepcopy(self._read[1])


def _listed(keys: Collection[str], most: int = 5) -> str:
    """How many tensors, and the first few by name."""
    names = sorted(keys)
    noun = "tensor" if len(names) == 1 else "tensors"
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} {noun} ({', '.join(names[:most])}{rest})"


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Without transformers' report: what matters of it is told here in a sentence."""
    logger = logging.getLogger(_REPORTS)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
