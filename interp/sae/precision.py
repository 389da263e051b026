"""In which precision a step's matrix products are computed; weights and Adam stay in float32.

fp32   as it says, on every device; on a CPU by the faster of torch's libraries (`interp.products`)
tf32   a GPU's products of float32 round their factors to 10 bits of mantissa; no effect on a CPU
bf16   torch.autocast: products of bfloat16 (7 bits), sums, losses and gradients back in float32

The hand-written sparse kernels fix their own precision, so under bf16 their architectures take the
dense step, which autocast reaches: on a CPU that takes longer than the sparse one in fp32. On a GPU
they take Triton's kernels with rounded factors instead.

What bf16 costs, on a CPU: SmolLM2-135M resid_post.9, 1,152 latents, 120,000 tokens, seeds 0 and 1,
FVE of held-out rows (L0 in brackets):

                    fp32                        bf16
    batchtopk-k32   .6814 .6871 (28.5 28.4)     .6805 .6882 (28.5 28.5)
    l1              .5296 .5309 (27.9 28.1)     .5297 .5314 (27.9 28.1)
"""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch

from interp.errors import ConfigError
from interp.products import faster_products
from interp.sae import kernels
from interp.sae.kernels.interface import Search
from interp.sae.learner import Learner
from interp.sae.sparse import SparseLearner

Precision = Literal["fp32", "tf32", "bf16"]
HAND_WRITTEN = kernels.__name__


@contextmanager
def computing(precision: Precision, device: torch.device) -> Generator[None, None, None]:
    """Compute so within the block."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    cast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    try:
        if precision == "tf32":
            products.fp32_precision = "tf32"
        with cast, faster_products():
            yield
    finally:
        products.fp32_precision = before


def suit(learner: Learner, precision: Precision, search: Search = "full") -> Learner:
    """The learner, on a step that rounds if its kernels could not follow.

    Raises:
        ConfigError: its step does not search.
    """
    learner.lists = learner.lists and precision != "bf16"
    sparse = isinstance(learner, SparseLearner)
    if precision == "bf16" and sparse and type(learner.backend).__module__.startswith(HAND_WRITTEN):
        learner.backend = kernels.rounding_backend(learner.weights.b_enc.device)
    if search != "full":
        if not sparse or not kernels.searches(learner.backend):
            raise ConfigError(f"search={search} is for steps compiled for a CPU; leave it out")
        learner.backend.encode.search = search
    return learner
