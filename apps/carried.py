"""The tables of *Disentangle*, as HTML: data in, text out. No Streamlit, no torch.

A heat map's cell shows its number, so that colour is never alone: blue adds to the neuron, orange
takes away from it.
"""

from collections.abc import Sequence

from apps import parts
from interp.features.disentangled import CarriedSense, Compared, Disentangled

_KINDS = {"holds up": "good", "in part": "warn", "not told from random": "bad", "not tried": ""}


def name(sense: CarriedSense) -> str:
    """What a sense is called on every page."""
    return "in no sense" if sense.sense is None else f"sense {sense.sense + 1}"


def summary(found: Disentangled) -> str:
    """The result in one sentence."""
    senses = [sense for sense in found.senses if sense.sense is not None]
    by = {
        verdict: ", ".join(str((s.sense or 0) + 1) for s in senses if s.verdict == verdict)
        for verdict in _KINDS
    }
    count = "one sense" if len(senses) == 1 else f"{len(senses)} senses"
    words = {
        "holds up": "carried by latents that hold up under ablation",
        "in part": "carried in part",
        "not told from random": "not told from random latents",
        "not tried": "in too few documents to try",
    }
    told = "; ".join(f"{text}: {by[verdict]}" for verdict, text in words.items() if by[verdict])
    return f"This neuron has {count}. Sense by sense, {told}."


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
        "KL neuron", "KL carriers", "KL random", "",
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
            *("–" if v is None else _cell(v, 1.0, at == own) for at, v in enumerate(removed)),
        ]
        for own, (sense, removed) in enumerate((s, s.removed_in) for s in senses)
        if removed
    ]
    return _table(head, lines, "heat") if lines else ""


def _cell(value: float, largest: float, strong: bool = False) -> str:
    share = min(abs(value) / largest, 1.0) if largest > 0 else 0.0
    kind = "heat-down" if value < 0 else "heat-up"
    mark = " heat-carrier" if strong else ""
    text = "0" if value == 0 else f"{value:+.3f}"
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
