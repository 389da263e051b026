"""A byte-level BPE learnt from given texts (Sennrich et al. 2016; bytes as in GPT-2)."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from interp.files import write_text

BOS = 0
BOS_TEXT = "<|bos|>"


def train_bpe(texts: Sequence[str], vocabulary: int, path: Path) -> None:
    """Learn a vocabulary (BOS is id 0) and write ``tokenizer.json``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    write_text(path, tokenizer.to_str())
