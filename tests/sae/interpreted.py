"""What the tests of the GPU's kernels share: Triton's interpreter, quick."""

import pytest

pytest.importorskip("triton")
from triton import knobs
from triton.runtime import interpreter

if not knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET is off: see test_triton_gpu.py", allow_module_level=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The interpreter patches the language at each call of a helper; once a file is enough."""
    seen = set()

    def call(self, *args, **kwargs):
        if id(self.fn.__globals__) not in seen:
            seen.add(id(self.fn.__globals__))
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)
