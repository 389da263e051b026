"""A model of two blocks, its tokenizer, and a folder of texts, all made in a second."""

import hashlib
import re
from pathlib import Path

import numpy as np
import torch
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.corpus import load_corpus
from interp.models import LoadedModel, Tokenizer
from interp.models.bpe import BOS, BOS_TEXT, train_bpe

CONTEXT, WIDTH, VOCABULARY = 16, 16, 300
TEXT = "the cat sat on a mat and saw seven grey mice by café walls at noon"
SITES = ["resid_post.0", "mlp_post.1"]
SETTINGS = {"context": 10, "shard_rows": 100, "heldout": 0.3, "dtype": "float32"}
MARKED = "work 4"
"""A work whose text names a special token."""


def write_texts(folder: Path) -> Path:
    """Ten works in two domains, of 20 to 110 words."""
    draw = np.random.default_rng(7)
    for number in range(10):
        words = draw.choice(TEXT.split(), 20 + 10 * number).tolist()
        if number == 4:
            words[3:3] = [BOS_TEXT, BOS_TEXT]
        path = folder / ("verse" if number % 2 else "prose") / f"work {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(words) + ".\n", encoding="utf-8")
    return folder


def learn_tokenizer(texts: Path, path: Path) -> Path:
    train_bpe([each.text for each in load_corpus(str(texts)).documents()], VOCABULARY, path)
    return path


def tiny_model(tokenizer: Path, *, bos: int | None = BOS) -> LoadedModel:
    """The same model each time, computing in float32."""
    config = TransformerBridgeConfig(
        d_model=WIDTH,
        d_head=8,
        n_heads=2,
        n_layers=2,
        n_ctx=CONTEXT,
        d_vocab=VOCABULARY,
        d_mlp=24,
        act_fn="relu",
        seed=3,
    )
    bridge = TransformerBridge.boot_native(config)
    return LoadedModel("tiny", bridge, Tokenizer.of_file(tokenizer, bos=bos), digest="0" * 64)


def lengthen(model: LoadedModel, text: str, factor: float) -> None:
    """Make the embedding of some tokens longer."""
    ids = model.tokenizer.encode(text)
    weights = dict(model.bridge.named_parameters())["tok_embed._original_component.weight"]
    with torch.no_grad():
        weights[ids] *= factor


def bytes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a store; nothing may lie there that is not compared."""
    files = sorted(file for file in folder.rglob("*") if file.name != ".lock")
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    data = file.read_bytes()
    if file.name == "manifest.json":  # the checkout may be committed to while tests run
        data = re.sub(rb'"commit": ".*"', b"", data)
    return hashlib.sha256(data).hexdigest()
