"""The process that children are forked from."""

import sys

import pytest

from tests.forks import FORKS, IMPORTED


def tell(pipe) -> None:
    """In a child."""
    pipe.send(sorted(sys.modules))


@pytest.mark.skipif(FORKS is None, reason="no fork")
def test_a_child_finds_everything_imported():
    """Else each would take some five seconds more, and nothing would fail."""
    here, there = FORKS.Pipe(duplex=False)
    child = FORKS.Process(target=tell, args=(there,))
    child.start()
    found = here.recv()
    child.join()
    assert {*IMPORTED, "torch", "transformer_lens"} <= set(found)
