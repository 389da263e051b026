"""Every number there is in 16 bits, decoded two ways."""

import numpy as np
import pytest
import torch

from interp.store.encoding import all_finite, decode, decode_finite

BITS = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_finite_number_decodes_exactly(dtype) -> None:
    kind = getattr(torch, dtype)
    expected = torch.from_numpy(BITS.view(np.int16)).view(kind).float().numpy()
    stored = BITS.view(np.float16) if dtype == "float16" else BITS
    finite = np.isfinite(expected)
    assert finite.sum() == 65536 - (2048 if dtype == "float16" else 256)
    out = np.empty(int(finite.sum()), np.float32)
    decode_finite(stored[finite], dtype, out)
    assert np.array_equal(out.view(np.uint32), expected[finite].view(np.uint32))
    assert np.array_equal(decode(stored[finite], dtype), out)


def test_float32_passes_through() -> None:
    values = np.array([1.5, -0.0, 3e38], np.float32)
    out = np.empty(3, np.float32)
    decode_finite(values, "float32", out)
    assert np.array_equal(out.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_single_nan_or_infinity_is_found_wherever_it_is(dtype) -> None:
    exponent = 0x7C00 if dtype == "float16" else 0x7F80
    clean = np.full((1200, 900), exponent - 1, np.uint16)
    view = (lambda bits: bits.view(np.float16)) if dtype == "float16" else (lambda bits: bits)
    assert all_finite(view(clean))
    assert all_finite(view(clean[:0]))
    for place in (0, 524_287, 524_288, clean.size - 1):
        for bad in (exponent, exponent + 1, 0x8000 | exponent):
            spoilt = clean.copy()
            spoilt.reshape(-1)[place] = bad
            assert not all_finite(view(spoilt))
