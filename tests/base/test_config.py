from dataclasses import dataclass
from typing import Literal

import pytest

from interp.config import field_docs, field_types, from_dict, to_dict
from interp.errors import ConfigError, UnknownName


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 0
    """The one seed."""


@dataclass(frozen=True, kw_only=True)
class Example(Base):
    rate: float = 0.5
    """A rate, over two
    lines."""
    width: int | None = None
    """A width."""
    mode: Literal["fast", "slow"] = "fast"
    """A mode."""
    sizes: tuple[int, ...] = (1, 2)
    """Some sizes."""
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ConfigError("rate must be positive")


@dataclass(frozen=True, kw_only=True)
class Holder:
    inner: Base | None = None
    """A config within a config."""


def test_a_config_within_a_config_comes_back():
    for config in (Holder(), Holder(inner=Base(seed=4))):
        assert from_dict(Holder, to_dict(config)) == config
    with pytest.raises(UnknownName, match="did you mean: seed"):
        from_dict(Holder, {"inner": {"sede": 4}})
    with pytest.raises(ConfigError, match=r"Holder\.inner must be Base, got 4"):
        from_dict(Holder, {"inner": 4})


def test_round_trip_through_plain_values():
    config = Example(rate=2.0, width=7, sizes=(3, 4), seed=9)
    plain = to_dict(config)
    assert plain["sizes"] == [3, 4]
    assert from_dict(Example, plain) == config


def test_an_integer_serves_as_a_float_but_a_bool_is_no_integer():
    assert from_dict(Example, {"rate": 3}).rate == 3.0
    with pytest.raises(ConfigError, match=r"Example\.seed must be int, got True"):
        from_dict(Example, {"seed": True})


def test_unknown_key_names_the_near_match():
    with pytest.raises(UnknownName, match="did you mean: width"):
        from_dict(Example, {"widht": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": "high"}, "Example.rate must be float"),
        ({"mode": "medium"}, "known: fast, slow"),
        ({"width": 1.5}, "Example.width must be int"),
        ({"sizes": ["a"]}, "Example.sizes must be int"),
        ({"rate": -1.0}, "rate must be positive"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Example, values)


def test_to_dict_refuses_what_is_no_config():
    with pytest.raises(ConfigError, match="expected a dataclass instance"):
        to_dict(Example)


def test_documentation_of_fields_includes_inherited_ones_and_joins_lines():
    docs = field_docs(Example)
    assert docs["seed"] == "The one seed."
    assert docs["rate"] == "A rate, over two lines."
    assert "verbose" not in docs
    assert list(field_types(Example)) == ["seed", "rate", "width", "mode", "sizes", "verbose"]
