"""The settings of a capture."""

from dataclasses import dataclass

from interp.errors import ConfigError
from interp.store.schema import DType


@dataclass(frozen=True, kw_only=True)
class CaptureConfig:
    """How much to capture, and how."""

    tokens: int = 1_000_000
    """Tokens to store, shared evenly among the corpus' domains; fewer if the corpus is smaller."""
    context: int = 128
    """Length of the windows the model reads, BOS included where there is one."""
    batch_tokens: int = 4096
    """Tokens a forward pass; halved by itself when memory runs out."""
    heldout: float = 0.1
    """Share of each domain's works, and of its tokens, that is kept from training."""
    seed: int = 0
    """Governs which works are held out and which documents are chosen."""
    shard_rows: int = 65_536
    """Rows a file; a killed capture loses the one being computed and the one being written."""
    dtype: DType = "float16"
    """Stored type; a site that does not fit float16 goes over to bfloat16 by itself."""

    def __post_init__(self) -> None:
        for name in ("tokens", "context", "batch_tokens", "shard_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.heldout < 1:
            raise ConfigError(f"heldout must be at least 0 and below 1, got {self.heldout}")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}")
        if self.dtype not in ("float16", "bfloat16", "float32"):
            raise ConfigError(f"dtype must be float16, bfloat16 or float32, got {self.dtype!r}")
        if self.shard_rows < self.context:
            raise ConfigError(
                f"shard_rows must be at least the context of {self.context}, got {self.shard_rows}"
            )
