"""Two stores of the same rows read as one: two models, or two checkpoints, side by side.

Each site is then ``resid_post.9@base`` or ``resid_post.9@tuned``, after the stores' names, and
``resid_post.9`` alone is both of them joined: what a crosscoder that compares models reads. Rows
must be the same tokens at the same positions of the same documents, or their activations would
have nothing to do with each other. Attention sinks of either are sinks.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from interp.errors import ConfigError, DataError, UnknownName
from interp.store.activations import ActivationStore
from interp.store.schema import StoredDocument
from interp.store.site import JOINT, Site, joint
from interp.store.vocabulary import Vocabulary


class PairedStore(ActivationStore):
    """Reads like a sealed store whose sites are those of two."""

    def __init__(self, first: ActivationStore, second: ActivationStore) -> None:
        """Check that the rows are the same.

        Raises:
            ConfigError: both stores have the same name.
            DataError: the rows differ; names the first that does.
            StoreCorrupt: a store is damaged.
        """
        tags = [each.name.replace(JOINT, "-") for each in (first, second)]
        if tags[0] == tags[1]:
            raise ConfigError(f"both stores are called {first.name}; rename one's folder")
        _check_rows(first, second)
        self._pair = (first, second)
        self._owners: dict[str, tuple[ActivationStore, Site]] = {}
        sites: list[Site] = []
        for store, tag in zip(self._pair, tags, strict=True):
            for site in store.sites.values():
                own = replace(site, name=f"{site.name}@{tag}", hook=f"{site.hook}@{tag}")
                self._owners[own.name] = (store, site)
                sites.append(own)
        owned = self._owners.items()
        dtypes = {name: store.manifest.dtypes[site.name] for name, (store, site) in owned}
        model = JOINT.join(dict.fromkeys(each.model for each in self._pair))
        manifest = replace(first.manifest, model=model, sites=tuple(sites), dtypes=dtypes)
        both = "".join(each.digest for each in self._pair)
        path = first.path.with_name(JOINT.join(each.name for each in self._pair))
        super().__init__(path, manifest, hashlib.sha256(both.encode()).hexdigest())

    def site(self, name: str) -> Site:
        """See `ActivationStore.site`; a name without a store's is the site of both, joined."""
        shared = all(name in store.sites for store in self._pair)
        if shared:
            owned = self._owners.items()
            return joint([self.sites[own] for own, (_, site) in owned if site.name == name])
        try:
            return super().site(name)
        except UnknownName:
            raise UnknownName(
                f"site of stores {self.name}", name, self.sites, "Capture it in both."
            ) from None

    def read_stored(
        self, site: Site, start: int, stop: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """See `ActivationStore.read_stored`."""
        store, own = self._owners[site.name]
        return store.read_stored(own, start, stop, out)

    @cached_property
    def documents(self) -> list[StoredDocument]:
        """See `ActivationStore.documents`."""
        return self._pair[0].documents

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """See `ActivationStore.vocabulary`."""
        return self._pair[0].vocabulary

    @cached_property
    def _columns(self) -> Mapping[str, np.ndarray]:
        first, second = self._pair
        return {
            "token": first.tokens,
            "document": first.document_index,
            "position": first.positions,
            "sink": first.sinks | second.sinks,
        }


def _check_rows(first: ActivationStore, second: ActivationStore) -> None:
    """Refuse stores whose rows are not the same."""
    remedy = "capture both with the same corpus, tokens, context and seed, by one tokenizer"
    names = f"stores {first.name} and {second.name}"
    if first.rows != second.rows:
        raise DataError(f"{names} have {first.rows} and {second.rows} rows; {remedy}")
    if first.documents != second.documents:
        raise DataError(f"{names} hold other documents; {remedy}")
    for what in ("document_index", "positions", "tokens"):
        differ = getattr(first, what) != getattr(second, what)
        if differ.any():
            raise DataError(
                f"{names} hold other {what.replace('_index', 's')}, first in row "
                f"{int(differ.argmax())}; {remedy}"
            )
