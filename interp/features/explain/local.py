"""A chat model on this machine, loaded as any other model of the project. Greedy, so repeatable.

Its dialogue is ChatML, as of SmolLM2. A small model explains little: look at its detection figures.
"""

import torch

from interp.errors import ConfigError
from interp.models import LoadedModel

START, END = "<|im_start|>", "<|im_end|>"
SHORTEST = 64
"""Tokens of a question that are left at least where a context is too short for all of it."""


class LocalChat:
    """A loaded model that speaks ChatML."""

    backend = "local"

    def __init__(self, model: LoadedModel) -> None:
        """Check that the model can be talked to.

        Raises:
            ConfigError: it reads no text, or no ChatML.
        """
        specials = () if model.tokenizer is None else model.tokenizer.specials
        tokenizer = model.tokenizer
        ids = [] if tokenizer is None else [tokenizer.encode(each) for each in (START, END)]
        if tokenizer is None or any(len(one) != 1 or one[0] not in specials for one in ids):
            raise ConfigError(
                f"{model.name} is no chat model of the ChatML kind; use smollm2-135m, or a server "
                "with --endpoint"
            )
        self._loaded, self._tokenizer, self._end = model, tokenizer, ids[1][0]
        self.model = f"{model.name} {model.digest[:12]}"

    def ask(self, system: str, question: str, words: int) -> str:
        """The model's answer, up to its first line break.

        Text that spells ChatML's own marks is taken apart first: nothing that is asked about can
        end its turn.
        """
        system, question = (part.replace("<|", "< |") for part in (system, question))
        encode = self._tokenizer.encode
        before = encode(f"{START}system\n{system}{END}\n{START}user\n")
        after = encode(f"{END}\n{START}assistant\n")
        room = self._loaded.n_ctx - len(before) - len(after) - 2 * words
        if room < SHORTEST:
            raise ConfigError(
                f"{self._loaded.name} reads {self._loaded.n_ctx} tokens at once, too few to be "
                "asked; use another model"
            )
        middle = encode(question)
        if len(middle) > room:  # both ends say what is asked; passages in between go
            middle = middle[: room // 2] + middle[-(room - room // 2) :]
        said: list[int] = []
        asked = torch.tensor([[*before, *middle, *after]], device=self._loaded.device)
        with torch.inference_mode():
            for _ in range(2 * words):
                token = int(self._loaded.forward(asked)[0, -1].argmax())
                text = self._tokenizer.decode(said).strip()
                if token == self._end or (text and "\n" in self._tokenizer.decode([token])):
                    break
                said.append(token)
                asked = torch.cat([asked, asked.new_tensor([[token]])], dim=1)
        return self._tokenizer.decode(said)
