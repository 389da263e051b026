"""The tables of *Disentangle*, as HTML: data in, text out. No Streamlit, no torch.

A heat map's cell shows its number, so that colour is never alone: blue adds to the neuron, orange
takes away from it.
"""

from collections.abc import Sequence
from urllib.parse import urlencode

from apps import parts
from apps.tokens import plain
from interp.features.disentangled import CarriedSense, Compared, Disentangled

_KINDS = {"holds up": "good", "in part": "warn", "not told from random": "bad", "not tried": ""}
_SAID = {
    "holds up": "carried by latents that hold up under ablation",
    "in part": "carried in part",
    "not told from random": "not told from what random latents carry",
    "not tried": "in too few documents to try",
}


def name(sense: CarriedSense) -> str:
    """What a sense is called on every page."""
    return "in no sense" if sense.sense is None else f"sense {sense.sense + 1}"


def summary(found: Disentangled) -> str:
    """The result in one sentence."""
    senses = [sense for sense in found.senses if sense.sense is not None]
    told: list[str] = []
    for verdict, words in _SAID.items():
        mine = [str((sense.sense or 0) + 1) for sense in senses if sense.verdict == verdict]
        if mine:
            which = f"senses {' and '.join(mine)} are" if len(mine) > 1 else f"sense {mine[0]} is"
            told.append(f"{which} {words}")
    count = "one sense" if len(senses) == 1 else f"{len(senses)} senses"
    return f"This neuron has {count}: {'; '.join(told)}."


def head(sense: CarriedSense) -> str:
    """What a sense is called, how much of the neuron it is, and whether its carriers hold up."""
    return (
        f'<div class="stratum"><b>{name(sense).capitalize()}</b>'
        f"<span>{parts.percent(round(sense.share, 4))} of the neuron's mass</span>"
        f"{_verdict(sense)}</div>"
    )


def carriers(found: Disentangled, sense: CarriedSense, rules: Sequence[str], text: str) -> str:
    """The latents that carry a sense, each with its rule and ways to look further."""
    stem = f"{found.model}/{found.site}/{found.dictionary}"
    lines = [
        [
            go("unit", f"latent {latent}", unit=f"{stem}/{latent}"),
            parts.text(plain(rules[latent], 160)) if latent < len(rules) else "",
            f"{contribution:+.3f}",
            parts.percent(round(active, 3)),
            go("disentangle", "its neurons", unit=f"{stem}/{latent}"),
            go("intervene", "ablate it here", unit=f"{stem}/{latent}", text=text),
        ]
        for latent, contribution, active in zip(
            found.latents, sense.contributions, sense.active, strict=True
        )
        if latent in sense.carriers
    ]
    header = ["carried by", "fires on", f"adds, of {parts.number(sense.activation)}",
              "active on, of its rows", "", ""]  # fmt: skip
    return parts.rows(header, lines, numeric=(2, 3))


def go(page: str, label: str, **query: str) -> str:
    """A link to a page of the app, as HTML."""
    return f'<a href="{page}?{urlencode(query)}" target="_self">{parts.text(label)}</a>'


def heat(found: Disentangled) -> str:
    """Senses by latents: mean contributions to the neuron, which add up along each row."""
    largest = max(
        (abs(v) for s in found.senses for v in (*s.contributions, s.others, s.bias, s.error)),
        default=0.0,
    )
    head = [
        "",
        "activation =",
        "bias",
        "error",
        "other latents",
        *map(str, found.latents),
    ]
    lines = [
        [
            f"<b>{name(sense)}</b><small>{parts.percent(round(sense.share, 4))} of mass</small>",
            f"<b>{parts.number(sense.activation)}</b>",
            *(_cell(value, largest) for value in (sense.bias, sense.error, sense.others)),
            *(
                _cell(value, largest, latent in sense.carriers)
                for latent, value in zip(found.latents, sense.contributions, strict=True)
            ),
        ]
        for sense in found.senses
    ]
    return _table(head, lines, "heat")


def tests(found: Disentangled) -> str:
    """Whether the carriers hold up, each figure with its interval beside its control."""
    head = [
        "", "carriers", "activation removed", "random latents", "effect removed", "random latents",
        "KL neuron", "KL carriers", "KL random", "verdict",
    ]  # fmt: skip
    lines = [
        [
            f"<b>{name(sense)}</b>",
            ", ".join(map(str, sense.carriers)) or "–",
            _figure(sense.removed),
            _control(sense.removed),
            _figure(sense.effect_removed),
            _control(sense.effect_removed),
            parts.number(sense.kl_neuron),
            parts.number(sense.kl_carriers),
            parts.number(sense.kl_control),
            _verdict(sense),
        ]
        for sense in found.senses
        if sense.sense is not None
    ]
    return parts.rows(head, lines, numeric=(6, 7, 8))


def crossed(found: Disentangled) -> str:
    """Share of activation removed in each sense's rows by each sense's carriers."""
    senses = [sense for sense in found.senses if sense.sense is not None]
    head = ["carriers of", *(f"in {name(sense)}" for sense in senses)]
    lines = [
        [
            f"<b>{name(sense)}</b>",
            *(
                "–" if v is None else _cell(v, 1.0, at == own, f"{v:.0%}")
                for at, v in enumerate(removed)
            ),
        ]
        for own, (sense, removed) in enumerate((s, s.removed_in) for s in senses)
        if removed
    ]
    return _table(head, lines, "heat") if lines else ""


def _cell(value: float, largest: float, strong: bool = False, words: str = "") -> str:
    share = min(abs(value) / largest, 1.0) if largest > 0 else 0.0
    kind = "heat-down" if value < 0 else "heat-up"
    mark = " heat-carrier" if strong else ""
    text = words or ("0" if value == 0 else f"{value:+.3f}")
    return f'<span class="{kind}{mark}" style="--a:{0.6 * share:.2f}">{text}</span>'


def _figure(test: Compared | None) -> str:
    if test is None:
        return "–"
    return f"<b>{test.value:.0%}</b> [{test.low:.0%}, {test.high:.0%}]"


def _control(test: Compared | None) -> str:
    if test is None:
        return "–"
    return f"{test.control:.0%} [{test.control_low:.0%}, {test.control_high:.0%}]"


def _verdict(sense: CarriedSense) -> str:
    return parts.tag(sense.verdict, _KINDS[sense.verdict])


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], kind: str) -> str:
    top = "".join(f'<th scope="col">{parts.text(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{line[0]}</th>{"".join(f"<td>{cell}</td>" for cell in line[1:])}</tr>'
        for line in lines
    )
    return (
        f'<div class="scroll"><table class="rows {kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
