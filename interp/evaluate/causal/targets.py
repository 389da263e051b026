"""What an attribution graph explains: numbers of a forward pass that latents lead to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.errors import ConfigError
from interp.evaluate.causal.intervene import require_predictions
from interp.features.bases import Basis, DictionaryBasis, NeuronBasis
from interp.models import LoadedModel
from interp.store.site import Site

Encode = Callable[[Float[Tensor, "n width"]], Float[Tensor, "n units"]]


class Target(ABC):
    """Numbers of one forward pass, each with a name."""

    names: tuple[str, ...]

    @abstractmethod
    def measure(
        self, model: LoadedModel, tokens: Int[Tensor, " length"]
    ) -> Float[Tensor, " targets"]:
        """Run the model over a window and return the numbers, with their gradients."""

    def check(self, model: LoadedModel) -> None:
        """Refuse models in which there are no such numbers.

        Raises:
            ConfigError: the model predicts no next tokens.
        """
        require_predictions(model)


class LogitDifference(Target):
    """Logit of one token less that of another, after the last position."""

    def __init__(self, token: int, other: int) -> None:
        """Which tokens."""
        self.token, self.other = token, other
        self.names = (f"logit of token {token} less that of {other}",)

    def measure(
        self, model: LoadedModel, tokens: Int[Tensor, " length"]
    ) -> Float[Tensor, " targets"]:
        """See `Target.measure`."""
        logits = model.forward(tokens[None])[0, -1].float()
        return (logits[self.token] - logits[self.other])[None]


class Loss(Target):
    """Mean cross-entropy of the window's tokens, nats."""

    names = ("cross-entropy",)

    def measure(
        self, model: LoadedModel, tokens: Int[Tensor, " length"]
    ) -> Float[Tensor, " targets"]:
        """See `Target.measure`."""
        logits = model.forward(tokens[None])[0, :-1].float()
        return cross_entropy(logits, tokens[1:])[None]


class _Units(Target):
    """Numbers read from one site, each at its own position."""

    def __init__(self, site: Site, encode: Encode, places: Sequence[tuple[int, int]]) -> None:
        self.site, self._encode, self._places = site, encode, list(places)

    def measure(
        self, model: LoadedModel, tokens: Int[Tensor, " length"]
    ) -> Float[Tensor, " targets"]:
        """See `Target.measure`."""
        seen: list[Tensor] = []

        def look(x: Tensor) -> Tensor:
            seen.append(x[0])
            return x

        stop = None if self.site.layer is None else self.site.layer + 1
        with model.substitute(self.site, look):
            model.run(tokens[None], stop_at_layer=stop)
        positions = [position for position, _ in self._places]
        units = [unit for _, unit in self._places]
        read = self._encode(seen[0][positions].float())
        return read[torch.arange(len(units)), units]

    def check(self, model: LoadedModel) -> None:
        """See `Target.check`; every model has activations."""


class Downstream(_Units):
    """The activation of a unit of a later site, at one position."""

    def __init__(self, site: Site, basis: Basis, index: int, position: int = -1) -> None:
        """A neuron or a latent.

        Raises:
            ConfigError: another kind of unit, which has no gradient here, or none of that index.
        """
        if not isinstance(basis, NeuronBasis | DictionaryBasis):
            raise ConfigError(
                f"{basis.name} has no gradient here; choose a neuron or a latent as the target"
            )
        if not 0 <= index < basis.n_units:
            raise ConfigError(f"{basis.name} has units 0 to {basis.n_units - 1}, not {index}")
        encode = basis.encode if isinstance(basis, NeuronBasis) else basis.dictionary.encode
        super().__init__(site, encode, [(position, index)])
        self.names = (f"{site.name}/{basis.name}/{index}",)


class PreActivations(_Units):
    """What latents of a later site are before their threshold, at given positions.

    A latent that jumps to its threshold has a gradient on one side of the jump only, and integrated
    gradients would miss the jump itself; its pre-activation is smooth wherever the model is. (Where
    it is active both are one number, but for matching pursuit, which subtracts what it has found.)
    """

    def __init__(
        self, site: Site, basis: DictionaryBasis, places: Sequence[tuple[int, int]]
    ) -> None:
        """Places are (position, latent)."""
        super().__init__(site, basis.dictionary.pre_activations, places)
        self.names = tuple(f"{site.name}/{basis.name}/{latent}" for _, latent in places)
