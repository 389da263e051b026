"""Compiled passes over dense pairs [n, latents]: what a rectifier passes on, and its derivatives.

Each loop owns a range of latents and goes down the rows in order, so that the number of threads
changes no byte of the sums over rows. In torch each of them is five to ten passes over memory.
Conditions are put so that NaN comes out as NaN.
"""

from typing import Any, no_type_check

from numpy.typing import NDArray

from interp.compiled import compiled

Array = NDArray[Any]


@compiled
@no_type_check
def tally(first: int, last: int, z: Array, counts: Array, least: Array) -> None:
    """Add up on how many rows each latent is positive, and lower ``least`` to its smallest."""
    for i in range(len(z)):
        row = z[i, first:last]
        count, low = counts[first:last], least[first:last]
        for j in range(len(row)):
            positive = row[j] > 0
            count[j] += positive
            low[j] = min(low[j], row[j] if positive else low[j])


@compiled
@no_type_check
def jump(first: int, last: int, pre: Array, threshold: Array, z: Array) -> None:
    """z = pre where it is above its latent's threshold, else 0."""
    for i in range(len(pre)):
        row, out, least = pre[i, first:last], z[i, first:last], threshold[first:last]
        for j in range(len(row)):
            out[j] = 0 if row[j] <= least[j] else row[j]


@compiled
@no_type_check
def jump_back(
    first: int,
    last: int,
    g: Array,
    pre: Array,
    threshold: Array,
    half: float,
    by_pre: Array,
    near: Array,
) -> None:
    """The derivatives of `jump`, g being that by z.

    Args:
        first: the range of latents.
        last: and its end.
        g: ∂loss/∂z.
        pre: as `jump` took them.
        threshold: as `jump` took them.
        half: the distance from the threshold within which a pair teaches it.
        by_pre: receives g where z is not 0.
        near: adds up g over the rows within that distance.
    """
    for i in range(len(pre)):
        row, by, out = pre[i, first:last], g[i, first:last], by_pre[i, first:last]
        least, total = threshold[first:last], near[first:last]
        for j in range(len(row)):
            out[j] = 0 if row[j] <= least[j] else by[j]
            total[j] += by[j] if abs(row[j] - least[j]) < half else 0


@compiled
@no_type_check
def count_above(first: int, last: int, pre: Array, threshold: Array, counts: Array) -> None:
    """Add up on how many rows each latent is above its threshold."""
    for i in range(len(pre)):
        row, least, total = pre[i, first:last], threshold[first:last], counts[first:last]
        for j in range(len(row)):
            total[j] += row[j] > least[j]


@compiled
@no_type_check
def count_near(
    first: int, last: int, pre: Array, threshold: Array, half: float, counts: Array
) -> None:
    """Add up on how many rows each latent is within ``half`` of its threshold."""
    for i in range(len(pre)):
        row, least, total = pre[i, first:last], threshold[first:last], counts[first:last]
        for j in range(len(row)):
            total[j] += abs(row[j] - least[j]) < half


@compiled
@no_type_check
def gate(
    first: int,
    last: int,
    products: Array,
    b_gate: Array,
    gain: Array,
    b_mag: Array,
    z: Array,
    signal: Array,
) -> None:
    """signal = relu(products + b_gate); where not 0, z = relu(products · gain + b_mag), else 0."""
    zero = products.dtype.type(0)
    for i in range(len(products)):
        row, value, opened = products[i, first:last], z[i, first:last], signal[i, first:last]
        low, scale, shift = b_gate[first:last], gain[first:last], b_mag[first:last]
        for j in range(len(row)):
            gated, magnitude = row[j] + low[j], row[j] * scale[j] + shift[j]
            opened[j] = zero if gated <= 0 else gated
            value[j] = zero if gated <= 0 or magnitude <= 0 else magnitude


@compiled
@no_type_check
def gate_back(
    first: int,
    last: int,
    by_z: Array,
    by_signal: Array,
    products: Array,
    b_gate: Array,
    gain: Array,
    z: Array,
    by_products: Array,
    by_b_gate: Array,
    by_gain: Array,
    by_b_mag: Array,
) -> None:
    """The derivatives of `gate`.

    Args:
        first: the range of latents.
        last: and its end.
        by_z: ∂loss/∂z.
        by_signal: ∂loss/∂signal.
        products: as `gate` took them.
        b_gate: as `gate` took it.
        gain: as `gate` took it.
        z: as `gate` gave it.
        by_products: receives ∂loss/∂products.
        by_b_gate: adds up ∂loss/∂b_gate, like the next two.
        by_gain: of the gain.
        by_b_mag: of b_mag.
    """
    zero = products.dtype.type(0)
    for i in range(len(products)):
        row, value, out = products[i, first:last], z[i, first:last], by_products[i, first:last]
        from_z, from_signal = by_z[i, first:last], by_signal[i, first:last]
        low, scale = b_gate[first:last], gain[first:last]
        gates, gains, shifts = by_b_gate[first:last], by_gain[first:last], by_b_mag[first:last]
        for j in range(len(row)):
            g = from_z[j] if value[j] > 0 else zero
            s = from_signal[j] if row[j] + low[j] > 0 else zero
            out[j] = g * scale[j] + s
            gates[j] += s
            gains[j] += g * row[j]
            shifts[j] += g
