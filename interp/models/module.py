"""Any ``torch.nn.Module`` with named submodules, with the face of a loaded model.

A site is what a submodule returns (``conv1``) or takes in (``fc@in``); in a toy model built on
TransformerLens' ``HookedRootModule`` it is a hook point. Arrays stand where a language model has
tokens, and what else has no meaning here (blocks, directions, the lens) is left out. The module
itself is not changed: hooks and evaluation mode end with each call.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError, DataError, UnknownName
from interp.models.places import INPUT, find_places
from interp.models.sites import find_all
from interp.store.site import Site
from interp.workspace import safe

Inputs = Shaped[Tensor, "batch *shape"] | Shaped[np.ndarray, "batch *shape"]


class _Read(Exception):
    """Ends a forward pass once every wanted site has been read."""


def wrap_module(
    module: nn.Module,
    *,
    name: str,
    sites: Sequence[str] | None = None,
    example: Inputs | None = None,
    channels: str | None = None,
) -> "WrappedModule":
    """Give a module of one's own the face of a loaded model.

    Args:
        module: any module; called with one array.
        name: what to call it; the first part of its units' addresses.
        sites: names of its submodules as ``named_modules`` has them, or patterns such as
            ``conv*``; with ``@in`` appended, what goes into one instead of what comes out. By
            default every hook point of a ``HookedRootModule`` that runs, but attention patterns.
        example: an input, of which the first row is run once to measure the sites; by default the
            first input that is given.
        channels: which axis of an activation holds the numbers of one position: "first" after
            the batch, "last", or by default the first of images and volumes (four axes and more)
            and the last of everything else. At a hook point the axes are TransformerLens': batch,
            position, and what is left side by side, such as heads.

    Raises:
        ConfigError: the name cannot be a folder's, or no site is named and there is no hook point.
        UnknownName: a name or pattern matches no submodule.
        DataError: a site of the example cannot be read.
    """
    return WrappedModule(module, name, sites, example=example, channels=channels)


class WrappedModule:
    """One module; `wrap_module` makes it."""

    tokenizer = None

    def __init__(
        self,
        module: nn.Module,
        name: str,
        sites: Sequence[str] | None,
        *,
        example: Inputs | None = None,
        channels: str | None = None,
    ) -> None:
        """See `wrap_module`."""
        safe(name)  # or an error: stores and tables take it as their folder's name
        self.name, self.module = name, module
        if channels not in (None, "first", "last"):
            raise ConfigError(f'channels must be "first" or "last", got {channels!r}')
        self._channels = channels
        parameter = next(module.parameters(), torch.empty(0))
        self.device, self.dtype = parameter.device, parameter.dtype
        self._places, self._optional = find_places(module, sites, name)
        self._measured: dict[str, Site] | None = None
        if example is not None:
            self._measure(example)

    def __repr__(self) -> str:
        kind = type(self.module).__name__
        return f"WrappedModule({self.name}: {kind}, {len(self._places)} sites, {self.device})"

    @property
    def digest(self) -> str:
        """SHA-256 of the module's tensors as they are now."""
        whole = hashlib.sha256()
        for key, value in sorted(self.module.state_dict().items()):
            whole.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().flatten()
            whole.update(flat.view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()

    # -- sites ----------------------------------------------------------------------------------

    def sites(self) -> dict[str, Site]:
        """The wrapped sites, by name.

        Raises:
            ConfigError: nothing was run yet, so that their widths are unknown.
        """
        if self._measured is None:
            raise ConfigError(
                f"the widths of {self.name}'s sites are unknown before its first input; "
                "give wrap_module(example=...)"
            )
        return dict(self._measured)

    def site(self, name: str) -> Site:
        """A site by its name.

        Raises:
            UnknownName: no such site was wrapped.
        """
        known = self.sites()
        if name not in known:
            remedy = "Name it in wrap_module(sites=...)."
            raise UnknownName(f"site of {self.name}", name, known, remedy)
        return known[name]

    def find_sites(self, names: Sequence[str]) -> list[Site]:
        """Sites by names or patterns, each once; errors as of `site`."""
        return find_all(self.sites(), {}, names, self.name)

    def _measure(self, inputs: Inputs) -> None:
        widths: dict[str, int] = {}
        runs = dict.fromkeys(self._places, 0)

        def look(place: str, value: Tensor) -> None:
            runs[place] += 1
            widths[place] = self._rows(place, value).shape[-1]

        self._watched(self._prepared(inputs)[:1], list(self._places), look)
        for place, count in runs.items():
            if count > 1:
                raise DataError(
                    f"{place} of {self.name} runs {count} times in one pass, so it is no one "
                    "place; give the module a submodule for each use"
                )
            if count == 0 and place not in self._optional:
                raise DataError(f"{place} of {self.name} does not run; leave it out of the sites")
        self._measured = {
            place: Site(name=place, hook=place, width=widths[place], layer=None)
            for place in self._places
            if place in widths
        }

    # -- running --------------------------------------------------------------------------------

    def forward(self, inputs: Inputs) -> Any:
        """What the module returns, in evaluation mode and without gradients."""
        prepared = self._prepared(inputs)
        if self._measured is None:
            self._measure(inputs)
        with self._evaluating():
            return self.module(prepared)

    def activations(
        self, inputs: Inputs, sites: Sequence[Site]
    ) -> dict[str, Float[Tensor, "batch length width"]]:
        """The activations of sites, by name; the module stops when all are read.

        A site without positions, such as a linear layer's, has length 1; one of images has a
        position a pixel, row by row.
        """
        if self._measured is None:
            self._measure(inputs)
        read: dict[str, Tensor] = {}

        def keep(place: str, value: Tensor) -> None:
            # A copy: a layer that works in place would overwrite what the one before returned.
            read[place] = self._rows(place, value).clone()
            if len(read) == len(wanted):
                raise _Read

        wanted = [self.site(site.name).name for site in sites]
        wanted = list(dict.fromkeys(wanted))
        self._watched(self._prepared(inputs), wanted, keep)
        return {place: read[place] for place in wanted}

    @contextmanager
    def substitute(
        self, site: Site, function: Callable[[Tensor], Tensor]
    ) -> Generator[None, None, None]:
        """Within the context, a site's activation ``[batch, length, width]`` becomes
        ``function`` of it in every forward pass."""

        place = self.site(site.name).name

        def replace(value: Tensor) -> Tensor:
            rows = self._rows(place, value)
            new = function(rows).reshape(rows.shape).to(value.dtype)
            if not self._channels_first(place, value):
                return new.reshape(value.shape)
            return new.movedim(-1, 1).reshape(value.shape)

        handle = self._attach(place, replace)
        try:
            yield
        finally:
            handle.remove()

    def _watched(
        self, inputs: Tensor, places: Sequence[str], look: Callable[[str, Tensor], None]
    ) -> None:
        with ExitStack() as stack:
            for place in places:

                def see(value: Tensor, place: str = place) -> None:
                    look(place, value)

                stack.callback(self._attach(place, see).remove)
            stack.enter_context(self._evaluating())
            try:
                self.module(inputs)
            except _Read:
                return

    def _attach(self, place: str, function: Callable[[Tensor], Tensor | None]) -> Any:
        """Call ``function`` with a site's tensor in every pass; what it returns takes its place."""

        def swap(values: Any) -> Any:
            many = isinstance(values, tuple)  # an LSTM returns its state as well
            first: Any = values[0] if many and values else values
            if not isinstance(first, Tensor) or first.ndim < 2:
                if self._measured is None and place in self._optional:
                    return None  # a pattern means what can be read
                raise DataError(
                    f"{place} of {self.name} is no array of one row per input; wrap another site"
                )
            new = function(first)
            if new is None:
                return None
            return (new, *values[1:]) if many else new

        submodule = self._places[place]
        if place.endswith(INPUT):
            return submodule.register_forward_pre_hook(lambda _, inputs: swap(inputs))
        return submodule.register_forward_hook(lambda _, inputs, output: swap(output))

    # -- arrays ---------------------------------------------------------------------------------

    def _prepared(self, inputs: Inputs) -> Tensor:
        array = torch.from_numpy(inputs) if isinstance(inputs, np.ndarray) else inputs
        dtype = self.dtype if array.is_floating_point() else array.dtype
        return array.to(device=self.device, dtype=dtype)

    def _is_hook_point(self, place: str) -> bool:
        return self._channels is None and isinstance(self._places[place], HookPoint)

    def _channels_first(self, place: str, value: Tensor) -> bool:
        if value.ndim == 2 or self._is_hook_point(place):
            return False
        return self._channels == "first" or (self._channels is None and value.ndim > 3)

    def _rows(self, place: str, value: Tensor) -> Float[Tensor, "batch length width"]:
        if self._is_hook_point(place) and value.ndim > 3:
            return value.flatten(2)
        if self._channels_first(place, value):
            value = value.movedim(1, -1)
        return value.reshape(value.shape[0], -1, value.shape[-1])

    @contextmanager
    def _evaluating(self) -> Generator[None, None, None]:
        """Evaluation mode, ended for the submodules that were in training."""
        training = [each for each in self.module.modules() if each.training]
        self.module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for each in training:
                each.training = True
