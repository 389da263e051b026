"""Which matrix library multiplies float32: chosen by speed, but only among exact ones."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import torch

from interp import products
from interp.errors import ConfigError
from interp.products import (
    EXACT,
    LIBRARIES,
    SETTING,
    error,
    faster_products,
    library,
    permitted,
)
from interp.sae.precision import computing


def allowed() -> str:
    return cast(Any, torch.backends.mkldnn).matmul.fp32_precision


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(SETTING, raising=False)
    products._chosen.cache_clear()
    yield
    products._chosen.cache_clear()


def test_products_are_exact_whichever_is_chosen() -> None:
    with faster_products():
        assert error() < EXACT


def test_it_is_left_as_it_was() -> None:
    before = allowed()
    with faster_products(), faster_products():
        assert allowed() == LIBRARIES[library()]
    assert allowed() == before
    with pytest.raises(ZeroDivisionError), faster_products():
        raise ZeroDivisionError
    assert allowed() == before


def test_it_is_left_as_it_was_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "onednn")

    @faster_products()
    def multiplied(rows: int) -> str:
        torch.ones(rows, 8) @ torch.ones(8, 8)
        return allowed()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(multiplied, range(1, 400))) == {LIBRARIES["onednn"]}
    assert allowed() == LIBRARIES["mkl"]


def test_what_the_user_permitted_stays() -> None:
    setting = cast(Any, torch.backends.mkldnn).matmul
    setting.fp32_precision = "tf32"
    try:
        with faster_products():
            assert allowed() == "tf32"
        assert allowed() == "tf32"
    finally:
        setting.fp32_precision = "none"


def test_a_library_that_rounds_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "maker", lambda: "vendor_id : AuthenticAMD")
    monkeypatch.setattr(products, "error", lambda: 2e-3)  # as on a processor with AMX
    assert library() == "mkl"
    products._chosen.cache_clear()
    monkeypatch.setattr(products, "error", lambda: 4e-7)
    assert library() == "onednn"


def test_the_error_of_rounded_products_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = products._factors()
    rounded = tuple(each.bfloat16().float() for each in plain)
    assert error() < EXACT
    product = (rounded[0] @ rounded[2].T).double()
    exact = plain[0].double() @ plain[2].double().T
    assert float((product - exact).norm() / exact.norm()) > 100 * EXACT


def test_no_stopwatch_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "seconds", lambda: pytest.fail("measured"))
    monkeypatch.setattr(products, "error", lambda: 4e-7)
    for maker, expected in (("AuthenticAMD", "onednn"), ("GenuineIntel", "mkl"), ("", "mkl")):
        products._chosen.cache_clear()
        monkeypatch.setattr(products, "maker", lambda maker=maker: maker)
        assert library() == expected


def test_both_can_be_measured() -> None:
    taken = products.seconds()
    assert taken.keys() == LIBRARIES.keys()
    assert all(0 < each < 10 for each in taken.values())


def test_each_library_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, permission in LIBRARIES.items():
        monkeypatch.setenv(SETTING, name)
        with faster_products():
            assert allowed() == permission
    monkeypatch.setenv(SETTING, "blas")
    with pytest.raises(ConfigError, match="INTERP_PRODUCTS=blas names no library"):
        library()


def test_measuring_touches_neither_seed_nor_setting() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    before = allowed()
    products.seconds()
    with permitted("onednn"):
        error()
    assert allowed() == before
    assert torch.equal(torch.rand(3), expected)


def test_a_training_step_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "onednn")
    with computing("fp32", torch.device("cpu")):
        assert allowed() == LIBRARIES["onednn"]
    assert allowed() == LIBRARIES["mkl"]
