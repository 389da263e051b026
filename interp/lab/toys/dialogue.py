"""Teaching a character model to answer, and then to answer as is preferred.

1. Exchanges: question and answer of the packaged English dialogues, one to a row, ``question`` line
   break ``answer`` line break, filled up with line breaks.
2. Supervised fine-tuning: cross-entropy of the answer's characters and the line break that ends it,
   given the question.
3. Direct preference optimisation (Rafailov et al. 2023, "Direct Preference Optimization: Your
   Language Model is Secretly a Reward Model"): with the log-probabilities of a preferred answer y_w
   and a rejected one y_l under the policy π and under the frozen reference π_ref, here the model as
   it was after step 2,

       loss = -log σ(β [log π(y_w|x)/π_ref(y_w|x) - log π(y_l|x)/π_ref(y_l|x)])

   Preferred is an answer that ends with "!" over the same one that ends with a full stop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from interp.corpus import fetch_corpus
from interp.errors import DataError
from interp.lab.toys.alphabet import encode
from interp.lab.toys.characters import CharacterModel, optimise
from interp.workspace import Workspace

PREFERRED, REJECTED = "!", "."
_HELDOUT_EVERY = 10


@dataclass(frozen=True)
class Exchange:
    """A question with its answer."""

    question: str
    answer: str

    @property
    def text(self) -> str:
        """As the model reads it."""
        return f"{self.question}\n{self.answer}\n"

    def ending(self, mark: str) -> "Exchange":
        """The same with another mark at the end of the answer."""
        return Exchange(self.question, self.answer.rstrip(".!?") + mark)


@dataclass(frozen=True)
class Rows:
    """Exchanges as a model takes them."""

    tokens: Int[Tensor, "row length"]
    answered: Bool[Tensor, "row length"]
    """Which characters belong to the answer, the line break that ends it included."""

    def some(self, draw: np.random.Generator, count: int) -> "Rows":
        """A batch, drawn with replacement."""
        return self.at(torch.from_numpy(draw.integers(0, len(self.tokens), count)))

    def at(self, chosen: Int[Tensor, " chosen"]) -> "Rows":
        """Rows by number."""
        return Rows(self.tokens[chosen], self.answered[chosen])


def exchanges(length: int) -> tuple[list[Exchange], list[Exchange]]:
    """The packaged English exchanges that fit into ``length`` characters: training, held out.

    A tenth of the questions is held out, with all their answers.

    Raises:
        AssetError: the corpus is not there and cannot be fetched.
    """
    documents = fetch_corpus("library", Workspace.at()).documents()
    found: dict[str, list[Exchange]] = {}
    for document in documents:
        if document.domain != "dialogue" or document.language != "en":
            continue
        for conversation in document.text.split("\n\n"):
            question, _, rest = conversation.partition("\n")
            answer = rest.partition("\n")[0]
            exchange = Exchange(question.strip(), answer.strip())
            if exchange.question and exchange.answer and len(exchange.text) < length:
                found.setdefault(exchange.question, []).append(exchange)
    parts: tuple[list[Exchange], list[Exchange]] = ([], [])
    for number, question in enumerate(sorted(found)):
        parts[number % _HELDOUT_EVERY == 0].extend(found[question])
    return parts


def rows_of(given: Sequence[Exchange], length: int) -> Rows:
    """Exchanges as rows of ``length`` characters.

    Raises:
        DataError: there are none, or one does not fit.
    """
    if not given:
        raise DataError(f"no exchange fits into {length} characters; give a longer context")
    tokens = torch.zeros(len(given), length, dtype=torch.long)  # 0 is the line break
    answered = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, exchange in enumerate(given):
        ids, start = encode(exchange.text), len(encode(exchange.question)) + 1
        if len(ids) > length:
            raise DataError(f"an exchange has {len(ids)} characters, a row {length}; leave it out")
        tokens[row, : len(ids)] = torch.from_numpy(ids)
        answered[row, start : len(ids)] = True
    return Rows(tokens, answered)


def log_probability(model: CharacterModel, rows: Rows) -> Float[Tensor, " row"]:
    """The log-probability of each row's answer given its question, summed over characters."""
    logits = model(rows.tokens)[:, :-1]
    losses = cross_entropy(logits.transpose(1, 2), rows.tokens[:, 1:], reduction="none")
    return -(losses * rows.answered[:, 1:]).sum(dim=1)


def tuning_loss(model: CharacterModel, rows: Rows) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answers' characters."""
    return -log_probability(model, rows).sum() / rows.answered.sum()


def margins(
    policy: tuple[Float[Tensor, " row"], Float[Tensor, " row"]],
    reference: tuple[Float[Tensor, " row"], Float[Tensor, " row"]],
) -> Float[Tensor, " row"]:
    """How much more than the reference a policy favours the first of two answers over the second.

    Args:
        policy: log-probabilities of the preferred answers, and of the rejected ones.
        reference: the same under the reference.
    """
    return (policy[0] - reference[0]) - (policy[1] - reference[1])


def preference_loss(
    policy: tuple[Float[Tensor, " row"], Float[Tensor, " row"]],
    reference: tuple[Float[Tensor, " row"], Float[Tensor, " row"]],
    *,
    beta: float,
) -> Float[Tensor, ""]:
    """The mean of -log σ(β margin); arguments as of `margins`."""
    return -logsigmoid(beta * margins(policy, reference)).mean()


def both(
    model: CharacterModel, pair: tuple[Rows, Rows]
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """Log-probabilities of preferred and of rejected answers."""
    return log_probability(model, pair[0]), log_probability(model, pair[1])


def pair_of(given: Sequence[Exchange], length: int) -> tuple[Rows, Rows]:
    """The same answers as preferred and as rejected."""
    good, bad = (
        rows_of([each.ending(mark) for each in given], length) for mark in (PREFERRED, REJECTED)
    )
    return good, bad


def tune(
    model: CharacterModel, rows: Rows, *, steps: int, batch: int, lr: float, seed: int
) -> Iterator[int]:
    """Fine-tune in place; as `optimise`."""

    def loss(draw: np.random.Generator) -> Tensor:
        return tuning_loss(model, rows.some(draw, batch))

    return optimise(model, loss, steps=steps, lr=lr, seed=seed)


def prefer(
    model: CharacterModel,
    reference: CharacterModel,
    pair: tuple[Rows, Rows],
    *,
    beta: float,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> Iterator[int]:
    """Tune a model in place by preferences, the reference staying as it is; as `optimise`."""

    def loss(draw: np.random.Generator) -> Tensor:
        chosen = torch.from_numpy(draw.integers(0, len(pair[0].tokens), batch))
        some = pair[0].at(chosen), pair[1].at(chosen)
        with torch.no_grad():
            fixed = both(reference, some)
        return preference_loss(both(model, some), fixed, beta=beta)

    return optimise(model, loss, steps=steps, lr=lr, seed=seed)
