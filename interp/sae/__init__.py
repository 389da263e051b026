"""Sparse autoencoders: store in, dictionary out.

`train` runs an architecture (`TopK`, `JumpReLU`, ... see `architectures`) over a site of an
activation store, over several at once (a crosscoder) or from one to another (a transcoder);
`load_dictionary` reads the result; `reconstruction` measures it on held-out rows. A dictionary
never knows its model.
"""

from interp.sae.architecture import Architecture, architectures, find_architecture
from interp.sae.base import Dictionary, Origin
from interp.sae.config import TrainConfig
from interp.sae.crosscoder import relative_norms
from interp.sae.files import load_dictionary, save_dictionary
from interp.sae.kinds.batchtopk import BatchTopK
from interp.sae.kinds.gated import Gated
from interp.sae.kinds.jumprelu import JumpReLU
from interp.sae.kinds.l1 import L1
from interp.sae.kinds.lista import Lista
from interp.sae.kinds.matchingpursuit import MatchingPursuit
from interp.sae.kinds.matryoshka import Matryoshka
from interp.sae.kinds.topk import TopK
from interp.sae.metrics import Reconstruction, reconstruction
from interp.sae.sweep import grid
from interp.sae.train import train, train_many

__all__ = [
    "L1",
    "Architecture",
    "BatchTopK",
    "Dictionary",
    "Gated",
    "JumpReLU",
    "Lista",
    "MatchingPursuit",
    "Matryoshka",
    "Origin",
    "Reconstruction",
    "TopK",
    "TrainConfig",
    "architectures",
    "find_architecture",
    "grid",
    "load_dictionary",
    "reconstruction",
    "relative_norms",
    "save_dictionary",
    "train",
    "train_many",
]
