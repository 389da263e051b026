"""A store that the same process has open in plain h5py is read all the same."""

import h5py
import numpy as np
import pytest

from tests.stores import make_store


@pytest.mark.parametrize("locking", [None, False, True])
def test_open_in_h5py_at_the_same_time(tmp_path, locking):
    store = make_store(tmp_path / "store")
    wanted = store.read("resid_post.0", 0, 100).copy()
    store = type(store).open(store.path)
    with h5py.File(sorted(store.path.glob("*.h5"))[0], "r", locking=locking):
        assert np.array_equal(store.read("resid_post.0", 0, 100), wanted)
