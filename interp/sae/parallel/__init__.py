"""One dictionary trained by several processes, each with a device of its own.

`Mesh` says who they are: a batch's *rows* are divided among some of them, the *latents* among
others. `team.py` is how they exchange tensors, `step.py` the step of TopK and BatchTopK, `rows.py`
that of architectures whose rows' losses stand alone, `trainer.py` who can be divided, and how a
trainer with a part of the latents works. Alone, one process uses none of it.
"""

from interp.sae.parallel.mesh import ALONE, Mesh

__all__ = ["ALONE", "Mesh"]
