"""Which latents carry each sense of a neuron, and whether they hold up under ablation."""

from interp.evaluate.disentangle.config import DisentangleConfig
from interp.evaluate.disentangle.contributions import Contributions, contributions
from interp.evaluate.disentangle.disentangle import disentangle

__all__ = ["Contributions", "DisentangleConfig", "contributions", "disentangle"]
