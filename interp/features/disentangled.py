"""What carries the senses of a neuron, as a file beside its unit table. No torch.

    <workspace>/units/<model>/<site>/<basis>.disentangled/<index>.<dictionary>.json

`interp.evaluate.disentangle` makes it; its module says what the figures are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from interp.config import from_dict
from interp.errors import ConfigError, FormatError
from interp.features.table import UnitTable
from interp.files import read_json, write_json

FORMAT, VERSION = "interp-disentangled", 1
SUFFIX = ".disentangled"
MOST = 0.5
"""Share that has to go with the carriers for them to hold up, not just in part."""
Verdict = Literal["holds up", "in part", "not told from random", "not tried"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A figure with its 95 % interval, beside the same of random latents."""

    value: float
    low: float
    """Lower end of its interval, by resampling documents."""
    high: float
    """Upper end."""
    control: float
    """Of as many random active latents, scaled to the same norm; mean over seeds."""
    control_low: float
    """2.5 % quantile over seeds."""
    control_high: float
    """97.5 % quantile over seeds."""

    @property
    def beats(self) -> bool:
        """Whether the interval lies above the control's."""
        return self.low > self.control_high


@dataclass(frozen=True, kw_only=True)
class CarriedSense:
    """One sense of the neuron, or what lies in no sense; means over its rows."""

    sense: int | None
    """Its number in the unit table, from 0; None for the active rows that lie in no sense."""
    share: float
    """Of the neuron's activation mass."""
    exemplar: int
    """Row of the store that is typical of it; -1 in no sense."""
    rows: int
    """Rows the means are over."""
    activation: float
    """Of the neuron: the sum of contributions, others, bias and error."""
    contributions: tuple[float, ...]
    """Of each listed latent."""
    active: tuple[float, ...]
    """Share of the rows on which each listed latent is active."""
    others: float
    """Of all other latents together."""
    bias: float
    """Of the decoder's bias."""
    error: float
    """What the dictionary does not reconstruct."""
    carriers: tuple[int, ...] = ()
    """The latents that carry it, chosen on half of the documents."""
    judged: int = 0
    """Rows of the other half, on which all that follows is measured."""
    removed: Compared | None = None
    """Share of the neuron's activation that goes when the carriers are ablated."""
    removed_in: tuple[float | None, ...] = ()
    """The same in the rows of every sense, in their order; None where those are not judged."""
    effect_removed: Compared | None = None
    """Share of the neuron's effect on the next token that goes with them."""
    kl_neuron: float | None = None
    """KL when the neuron is ablated, nats."""
    kl_carriers: float | None = None
    """KL when the carriers are."""
    kl_control: float | None = None
    """KL when as many random latents are, scaled to the same norm."""

    @property
    def verdict(self) -> Verdict:
        """What the ablations say of the carriers.

        They hold up if more goes with them than with random latents, intervals apart, and at least
        `MOST` of the neuron's activation and, where the model was run, of its effect.
        """
        tests = [test for test in (self.removed, self.effect_removed) if test is not None]
        if not tests:
            return "not tried"
        if not all(test.beats for test in tests):
            return "not told from random"
        return "holds up" if all(test.value >= MOST for test in tests) else "in part"


@dataclass(frozen=True, kw_only=True)
class Disentangled:
    """A neuron, its senses and the latents of one dictionary."""

    model: str
    site: str
    basis: str
    index: int
    dictionary: str
    latents: tuple[int, ...]
    """The listed latents, those with the largest contributions to any sense."""
    senses: tuple[CarriedSense, ...]
    agreement: float | None
    """Share of the table's own contexts that are put into the sense they have there."""
    table: str
    """Key of the unit table."""
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def write(self, table: Path) -> Path:
        """Write it beside a unit table.

        Raises:
            ResourceError: no space is left, or the folder cannot be written.
        """
        path = path_of(table, self.index, self.dictionary)
        write_json(path, {"format": FORMAT, "version": VERSION, **asdict(self)})
        return path


def path_of(table: Path, index: int, dictionary: str) -> Path:
    """The file of a unit and a dictionary beside a unit table."""
    folder = table.with_name(table.name.removesuffix(".h5") + SUFFIX)
    return folder / f"{index}.{dictionary}.json"


def found(table: UnitTable, index: int) -> dict[str, Path]:
    """The files there are of a unit, by dictionary."""
    start = f"{index}."
    folder = path_of(table.path, index, "x").parent
    return {
        path.name.removeprefix(start).removesuffix(".json"): path
        for path in sorted(folder.glob(f"{start}*.json"))
    }


def read(path: Path, table: UnitTable) -> Disentangled:
    """Read what was written for a unit of a table.

    Raises:
        FormatError: the file is missing, malformed, foreign, newer, or of another table.
    """
    values = read_json(path)
    if (values.pop("format", None), values.pop("version", None)) != (FORMAT, VERSION):
        raise FormatError(f"{path} is none of these files, or newer; update interp or {_AGAIN}")
    try:
        values["senses"] = tuple(_sense(each) for each in values["senses"])
        values["latents"] = tuple(map(int, values["latents"]))
        record = Disentangled(**values)
        widths = {(len(s.contributions), len(s.active)) for s in record.senses}
        if widths - {(len(record.latents), len(record.latents))}:
            raise ConfigError("a sense has not one contribution a latent")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is malformed ({error}); {_AGAIN}") from error
    if record.table != table.key:
        raise FormatError(f"{path} is of an earlier unit table; {_AGAIN}")
    return record


_AGAIN = "run `interp disentangle` again"


def _sense(values: Mapping[str, Any]) -> CarriedSense:
    tests = {
        name: None if values.get(name) is None else from_dict(Compared, values[name])
        for name in ("removed", "effect_removed")
    }
    rest = from_dict(CarriedSense, {k: v for k, v in values.items() if k not in tests})
    return replace(rest, **tests)
