"""One stream of batches that several trainings read, each as if it had the stream to itself."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32


@runtime_checkable
class Batches(Protocol):
    """An endless, seeded stream of training batches that can be put back where it stood."""

    def __next__(self) -> Float32[np.ndarray, "batch d_in"]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class SharedBatches:
    """Draws each batch once for all readers that stand at the same place.

    Whatever the readers' places, each gets the batches of its own place; sharing saves time only
    while they go side by side.
    """

    def __init__(self, source: Batches) -> None:
        """Share a stream that nobody else reads; its state must be JSON-ready."""
        self._source = source
        self._before: dict[str, Any] | None = None
        self._after = source.state_dict()
        self._batch = np.empty((0, 0), np.float32)

    def reader(self) -> "Reader":
        """A reader that begins where the stream stands now."""
        return Reader(self, self._after)

    def at(self, place: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        """The batch at a place, and the place after it."""
        if place != self._before:
            if place != self._after:
                self._source.load_state_dict(place)
            self._batch = next(self._source)
            self._before, self._after = dict(place), self._source.state_dict()
        return self._batch, self._after

    def check(self, place: Mapping[str, Any]) -> None:
        """Refuse a place of another stream, as the stream itself would."""
        here = self._source.state_dict()
        self._source.load_state_dict(place)
        self._source.load_state_dict(here)


class Reader:
    """One reader of shared batches; itself `Batches`. Its batches must not be written to."""

    def __init__(self, shared: SharedBatches, place: Mapping[str, Any]) -> None:
        """See `SharedBatches.reader`."""
        self._shared, self._place = shared, dict(place)

    def __next__(self) -> Float32[np.ndarray, "batch d_in"]:
        batch, self._place = self._shared.at(self._place)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where this reader stands."""
        return dict(self._place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved place.

        Raises:
            FormatError: the state is of another stream.
        """
        self._shared.check(state)
        self._place = dict(state)
