"""How the GPU's kernels are started."""

from typing import Any


def launch(kernel: Any, programs: tuple[int, ...], *args: Any, warps: int, **settings: Any) -> None:
    """Run a kernel once for every place of a grid, unless it has none.

    Args:
        kernel: what `triton.jit` made.
        programs: the grid.
        args: the kernel's arguments.
        warps: of 32 threads each, that share one program's work.
        settings: the kernel's compile-time arguments; each set of them is compiled once.
    """
    if all(programs):
        kernel[programs](*args, **settings, num_warps=warps)


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least so much."""
    return 1 << (least - 1).bit_length()


def parts(whole: int, size: int) -> int:
    """How many parts of a size cover a whole."""
    return -(-whole // size)
