"""What a unit means: its rule, tokens, languages, purity and senses, in and out of a unit table.

    languages/      share float32 [units, languages], attribute names (JSON)
    tokens/         id int64 [units, 10] (-1 = none), share float32 of activation mass
    purity/<field>  float32 [units, strata], NaN where unknown; attribute strata of the group (JSON)
    rule/text       uint8 [units, width], UTF-8 padded with zeros
    senses/         share float32 [units, 8], exemplar int64 (row, -1 = none), of_context int8
                    [units, strata, K] (sense of each shown context, -1 = none); attribute
                    alike_below

Tables of version 1 have none of these. No torch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int8, Int64, UInt8


@dataclass(frozen=True, kw_only=True)
class Meanings:
    """What all units of a basis mean, to be written."""

    languages: Sequence[str]
    language_share: Float[np.ndarray, "units languages"]
    token: Int64[np.ndarray, "units top"]
    token_share: Float[np.ndarray, "units top"]
    purity: Mapping[str, Float[np.ndarray, "units strata"]]
    purity_strata: Sequence[str]
    rule: UInt8[np.ndarray, "units width"]
    sense_share: Float[np.ndarray, "units most"]
    sense_exemplar: Int64[np.ndarray, "units most"]
    sense_of_context: Int8[np.ndarray, "units contexts_strata keep"]
    alike_below: float

    def arrays(self) -> dict[str, np.ndarray]:
        """Datasets by name."""
        return {
            "languages/share": self.language_share.astype(np.float32),
            "tokens/id": self.token,
            "tokens/share": self.token_share.astype(np.float32),
            **{f"purity/{name}": values.astype(np.float32) for name, values in self.purity.items()},
            "rule/text": self.rule,
            "senses/share": self.sense_share.astype(np.float32),
            "senses/exemplar": self.sense_exemplar,
            "senses/of_context": self.sense_of_context,
        }

    def annotate(self, file: Any) -> None:
        """Write the attributes of the groups."""
        file["languages"].attrs["names"] = json.dumps(list(self.languages))
        file["purity"].attrs["strata"] = json.dumps(list(self.purity_strata))
        file["senses"].attrs["alike_below"] = self.alike_below


@dataclass(frozen=True)
class Sense:
    """One of the things a unit fires on."""

    share: float
    """Of the unit's activation mass."""
    exemplar: int
    """The row of the store that is nearest to all others of the sense."""
    contexts: Int[np.ndarray, "n 2"]
    """Which shown contexts belong to it: numbers of stratum and of context within it."""


@dataclass(frozen=True)
class Meaning:
    """What one unit means."""

    rule: str
    """The best rule in words; empty where the unit is active too rarely for one."""
    tokens: list[tuple[int, float]]
    """Tokens by share of activation mass, largest first."""
    languages: dict[str, float]
    """Share of activation mass in each language, largest first."""
    purity: dict[str, dict[str, float]]
    """For token, domain and language: purity by stratum, NaN where unknown."""
    senses: list[Sense]
    """Largest first."""
    alike_below: float
    """The distance below which two contexts count as alike, see `interp.features.senses`."""


def read_meaning(
    attributes: Callable[[str], Mapping[str, Any]],
    dataset: Callable[[str, tuple[int | None, ...]], np.ndarray],
) -> Meaning:
    """Put together what a file says about one unit.

    Args:
        attributes: the attributes of a group by name.
        dataset: the unit's part of a dataset by name and the shape of that part.

    Raises:
        KeyError, TypeError, ValueError: the file is malformed.
    """
    names = _names(attributes("languages")["names"])
    share = dataset("languages/share", (len(names),))
    order = np.argsort(-share, kind="stable")
    strata = _names(attributes("purity")["strata"])
    ids, masses = dataset("tokens/id", (None,)), dataset("tokens/share", (None,))
    senses = dataset("senses/share", (None,))
    exemplars = dataset("senses/exemplar", (len(senses),))
    of_context = dataset("senses/of_context", (None, None))
    return Meaning(
        rule=bytes(dataset("rule/text", (None,))).rstrip(b"\0").decode(errors="replace"),
        tokens=[(int(t), float(m)) for t, m in zip(ids, masses, strict=True) if t >= 0],
        languages={names[i]: float(share[i]) for i in order if share[i] > 0},
        purity={
            each: dict(
                zip(strata, map(float, dataset(f"purity/{each}", (len(strata),))), strict=True)
            )
            for each in ("token", "domain", "language")
        },
        senses=[
            Sense(float(part), int(row), np.argwhere(of_context == number))
            for number, (part, row) in enumerate(zip(senses, exemplars, strict=True))
            if part > 0
        ],
        alike_below=float(attributes("senses")["alike_below"]),
    )


def _names(text: Any) -> list[str]:
    return [str(name) for name in json.loads(text)]
