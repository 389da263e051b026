"""Ids to bytes and text to ids, for the three ways in which vocabularies write bytes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from interp.errors import FormatError
from interp.models.bpe import BOS, BOS_TEXT, train_bpe
from interp.models.tokenizer import Tokenizer, byte_table
from tests.models.tiny import TEXTS, save_tokenizer

SAMPLES = [
    "To be, or not to be",
    "  two spaces\n\ttab\r\n",
    "née ☃ 🜁 日本語",
    "\x00\x7f",
    "",
]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> Tokenizer:
    """The toy model's kind: byte-level, BOS is id 0."""
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train_bpe(TEXTS, 400, path)
    return Tokenizer.of_file(path, bos=BOS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tokenizer of the same kind, as transformers saves it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


def transformers_tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


# -- byte-level BPE -----------------------------------------------------------------------------


def test_the_byte_table_is_the_one_of_tokenizers() -> None:
    """Every byte through the real pre-tokenizer, as far as text can hold it."""
    table = byte_table()
    assert sorted(table.values()) == list(range(256))
    assert set(table) == set(pre_tokenizers.ByteLevel.alphabet())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, range(0x800))) + "☃🜁"
    ((written, _),) = level.pre_tokenize_str(text)
    assert bytes(table[character] for character in written) == text.encode()


@pytest.mark.parametrize("text", SAMPLES)
def test_the_bytes_of_the_ids_are_the_bytes_of_the_text(bpe, text) -> None:
    vocabulary = bpe.vocabulary()
    assert b"".join(vocabulary[id] for id in bpe.encode(text)) == text.encode()
    assert bpe.decode(bpe.encode(text)) == text


@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_survives(bpe, text) -> None:
    ids = bpe.encode(text)
    assert b"".join(bpe.vocabulary()[id] for id in ids) == text.encode()


def test_pieces_of_a_character_are_bytes_that_are_no_text(bpe) -> None:
    """日 was never seen, so it falls into single bytes, none of which is text of its own."""
    vocabulary = bpe.vocabulary()
    pieces = [vocabulary[id] for id in bpe.encode("日")]
    assert [len(piece) for piece in pieces] == [1, 1, 1]
    assert b"".join(pieces) == "日".encode()
    with pytest.raises(UnicodeDecodeError):
        pieces[0].decode()


def test_a_vocabulary_has_every_byte_and_no_piece_twice(bpe) -> None:
    vocabulary = bpe.vocabulary()
    assert len(vocabulary) <= 400
    assert len(set(vocabulary)) == len(vocabulary)
    assert {bytes([byte]) for byte in range(256)} < set(vocabulary)


def test_specials_are_named_and_bos_is_not_added(bpe) -> None:
    assert bpe.specials == {BOS}
    assert bpe.bos == BOS
    assert bpe.vocabulary()[BOS] == BOS_TEXT.encode()
    assert BOS not in bpe.encode("To be")
    assert bpe.decode([BOS, *bpe.encode("To be")]) == BOS_TEXT + "To be"


def test_training_twice_gives_the_same_bytes(tmp_path) -> None:
    for name in ("a", "b"):
        train_bpe(TEXTS, 350, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# -- against transformers -----------------------------------------------------------------------


@pytest.mark.parametrize("text", SAMPLES)
def test_ids_are_those_of_transformers_without_specials(folder, text) -> None:
    theirs = transformers_tokenizer(folder)
    ours = Tokenizer.of_transformers(theirs, bos=theirs.bos_token_id)
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.bos == theirs.bos_token_id == 0


def test_a_template_that_adds_specials_and_a_truncation_are_not_applied(folder) -> None:
    """Llama's tokenizers put BOS first on their own, and some folders ask for truncation."""
    theirs = transformers_tokenizer(folder)
    backend = theirs.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", 0)]
    )
    backend.enable_truncation(3)
    backend.enable_padding(length=64)
    ours = Tokenizer.of_transformers(theirs, bos=theirs.bos_token_id)
    assert backend.encode("To be, or not to be").ids[0] == 0  # theirs does
    ids = ours.encode("To be, or not to be")
    assert 0 not in ids
    assert ours.decode(ids) == "To be, or not to be"
    assert backend.truncation is not None  # and theirs is left as it was


@pytest.mark.parametrize("text", SAMPLES)
def test_the_bytes_of_smollm2_s_ids_are_the_bytes_of_the_text(real_workspace, text) -> None:
    theirs = transformers_tokenizer(real_workspace.model("smollm2-135m"))
    ours = Tokenizer.of_transformers(theirs, bos=theirs.bos_token_id)
    vocabulary = ours.vocabulary()
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert b"".join(vocabulary[id] for id in ids) == text.encode()
    assert {vocabulary[id] for id in ours.specials} >= {b"<|im_start|>", b"<|im_end|>"}


# -- the other two families ---------------------------------------------------------------------


def test_sentencepiece_writes_spaces_and_stray_bytes() -> None:
    backend = Backend(
        models.Unigram(
            [("<unk>", 0.0)]
            + [(f"<0x{byte:02X}>", -10.0) for byte in range(256)]
            + [("▁to", -1.0), ("▁be", -1.0), ("▁", -3.0), ("é", -3.0)],
            unk_id=0,
            byte_fallback=True,
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer = Tokenizer(backend, bos=None)
    vocabulary = tokenizer.vocabulary()
    pieces = [vocabulary[id] for id in tokenizer.encode("to be é☃")]
    assert pieces == [b" to", b" be", b" ", "é".encode(), b"\xe2", b"\x98", b"\x83"]


def test_wordpiece_marks_continuations() -> None:
    """A vocabulary of plain letters, which byte-level BPE could have as well."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=60, special_tokens=["[UNK]", "[CLS]"], show_progress=False
    )
    backend.train_from_iterator(["unhappy happy", "un happy unhappily"] * 9, trainer)
    tokenizer = Tokenizer(backend, bos=1)
    vocabulary = tokenizer.vocabulary()
    joined = b"".join(vocabulary[id] for id in tokenizer.encode("Unhappy happy"))
    assert joined == b" unhappy happy"
    assert vocabulary[1] == b"[CLS]"
    assert tokenizer.specials == {0, 1}


def test_added_words_are_spelt_as_they_are() -> None:
    """An added token that is no special one is text, and is not spelt through the byte table."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_tokens(["    née"])
    tokenizer = Tokenizer(backend, bos=None)
    (id,) = tokenizer.encode("    née")
    assert tokenizer.vocabulary()[id] == "    née".encode()
    assert tokenizer.specials == frozenset()


def test_ids_that_stand_for_nothing_are_empty() -> None:
    backend = Backend(models.WordLevel({"a": 0, "b": 3}, unk_token="a"))
    assert Tokenizer(backend, bos=None).vocabulary() == [b"a", b"", b"", b"b"]


# -- what is refused ----------------------------------------------------------------------------


def test_a_file_that_is_no_tokenizer_is_named(tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    for text in (None, "{", json.dumps({"version": "1.0"})):
        if text is not None:
            path.write_text(text)
        with pytest.raises(FormatError, match=r"tokenizer\.json is no readable tokenizer"):
            Tokenizer.of_file(path, bos=0)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        bos_token_id = 0

    with pytest.raises(FormatError, match="Slow has no fast version"):
        Tokenizer.of_transformers(Slow(), bos=0)
