"""Absorption: found where it is planted and only there, the formula as loops, and who can spell."""

from argparse import Namespace
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.cli.measures import absorptions
from interp.errors import ConfigError, DataError
from interp.evaluate import absorption, spelling
from interp.evaluate.absorption import absorbed, main_latents
from interp.evaluate.spelling import LEAST_WORDS, WORDS, Spelling, spelled, words_by_letter
from interp.features.bases import DictionaryBasis
from interp.models import LoadedModel
from interp.models.tokenizer import Tokenizer
from interp.sae import BatchTopK, Origin, TopK, TrainConfig, train
from tests.stores import make_store

SITE, WIDTH, LETTERS, EACH = "resid_pre.0", 12, 5, 120
CHILD = LETTERS
"""The dimension that one word in 24 of every letter has: too few to count as a split."""


def words() -> tuple[Spelling, np.ndarray]:
    """Each letter has a dimension of its own; some words have one more."""
    letter = np.repeat(np.arange(LETTERS), EACH)
    number = np.arange(LETTERS * EACH)
    child = number % 24 == 0
    x = np.random.default_rng(1).normal(size=(len(letter), WIDTH)) * 0.05
    x[number, letter] += 4
    x[child, CHILD] += 3
    heldout = number // 24 % 2 == 0
    return spelled(x, letter, heldout, tuple("abcde")), child


def basis(absorbs: bool, site: str = SITE, **origin) -> DictionaryBasis:
    """A latent a letter; one more fires on words of the first letter that are a child.

    Absorbing, it writes the letter as well, and the letter's own latent is silent there.
    """
    made = Origin(model="tiny", site=site, store="tiny", store_digest="0", **origin)
    found = BatchTopK(latents=LETTERS + 1, k=2).dictionary(WIDTH, made)
    with torch.no_grad():
        found.threshold.fill_(0.5)
        found.W_enc[range(LETTERS), range(LETTERS)] = 1
        found.W_dec[range(LETTERS), range(LETTERS)] = 1
        found.W_enc[[0, CHILD], CHILD] = 2.5
        found.b_enc[CHILD] = -12.5  # 2.5 · (4 + 3 - 5): above 0 only for both at once
        found.W_dec[CHILD, CHILD] = 1
        if absorbs:
            found.W_enc[CHILD, 0] = -2
            found.W_dec[CHILD, [0, CHILD]] = torch.tensor([0.8, 0.6])
    return DictionaryBasis(found.requires_grad_(False), "absorbing" if absorbs else "plain")


def test_a_planted_absorbed_letter_is_found_and_an_unabsorbed_one_is_not() -> None:
    planted, child = words()
    assert planted.accuracy == 1
    mine, plain = absorption([basis(True), basis(False)], planted)
    judged = planted.heldout & (planted.letter == 0)
    share = child[judged].mean()
    assert share == 3 / 72
    # Of the first letter just the child's words, of the other letters none.
    assert mine.full == pytest.approx(share / LETTERS)
    assert mine.fraction == pytest.approx(share / LETTERS)
    assert mine.full_low <= mine.full <= mine.full_high
    assert (plain.full, plain.fraction) == (0, 0)
    assert (mine.letters, mine.words) == (LETTERS, planted.heldout.sum())
    assert mine.mains == plain.mains == 1


def test_it_is_the_formula_word_by_word() -> None:
    draw = np.random.default_rng(3)
    d = draw.normal(size=(9, 6)) * draw.uniform(0.5, 2, size=(9, 1))
    p = np.array([1.0, 0, 0, 0, 0, 0])
    z = draw.exponential(size=(400, 9)) * (draw.random((400, 9)) < 0.4)
    z[:50, [0, 4]] = 0
    projection = draw.normal(size=400) * 2 + 1
    mains = np.array([0, 4])
    fraction, full = absorbed(projection, z, d, p, mains)
    for word in range(400):
        share = {j: z[word, j] * float(d[j] @ p) for j in range(9)}
        cosine = {j: float(d[j] @ p) / np.sqrt(d[j] @ d[j]) for j in range(9)}
        main = sum(share[j] for j in mains)
        others = [share[j] for j in range(9) if j not in mains and cosine[j] >= 0.1]
        top = sum(sorted((each for each in others if each > 0), reverse=True)[:3])
        if projection[word] <= 0 or main >= projection[word] or top < 0.4 * projection[word]:
            expected = 0.0
        elif main <= 0:
            expected = 1.0
        else:
            within = min(top, projection[word] - main)
            expected = within / (within + main)
        assert fraction[word] == pytest.approx(expected, abs=1e-12)
        best = max(share, key=share.get)
        silent = not any(z[word, j] for j in mains)
        large = projection[word] > 0 and share[best] >= 0.4 * projection[word]
        assert full[word] == (silent and cosine[best] >= 0.025 and large)
    assert 0.02 < full.mean() < 0.5
    assert len(np.unique(fraction)) > 20


def test_a_letter_split_over_two_latents_has_two_main_ones() -> None:
    positive = np.arange(200) < 80
    z = np.random.default_rng(0).exponential(size=(200, 6)) * 0.01
    z[:40, 3] += 1
    z[40:80, 5] += 2
    assert main_latents(z, positive).tolist() == [5, 3]
    z[:80, 1] += 5
    assert main_latents(z, positive).tolist() == [1]


def test_noise_spells_at_chance() -> None:
    draw = np.random.default_rng(0)
    letter = np.repeat(np.arange(LETTERS), EACH)
    x = draw.normal(size=(len(letter), WIDTH))
    found = spelled(x, letter, np.arange(len(letter)) % 3 == 2, tuple("abcde"))
    assert found.accuracy == pytest.approx(1 / LETTERS, abs=0.12)


def test_words_are_whole_tokens_of_letters() -> None:
    ends = [bytes([97 + i % 26, 97 + i // 26]) for i in range(WORDS + 1)]
    vocabulary = [b" tartan", b" Cat", b"cat", b" c4t", b" it", *(b" b" + end for end in ends)]
    vocabulary += [b" q" + end for end in ends[: LEAST_WORDS - 1]]
    found = words_by_letter(vocabulary, seed=0)
    assert list(found) == ["b"]
    assert len(set(found["b"].tolist())) == WORDS
    assert words_by_letter(vocabulary, seed=0)["b"].tolist() == found["b"].tolist()
    assert words_by_letter(vocabulary, seed=1)["b"].tolist() != found["b"].tolist()


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    """One block with random weights, and words of five letters in its vocabulary."""
    names = [
        f"Ġ{c}{chr(97 + i % 26)}{chr(97 + i // 26)}" for c in "abcde" for i in range(LEAST_WORDS)
    ]
    pieces = ["<bos>", "<unk>", *names]
    backend = Backend(WordLevel({each: i for i, each in enumerate(pieces)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    config = TransformerBridgeConfig(
        d_model=WIDTH, d_head=6, n_heads=2, n_layers=1, n_ctx=64, d_vocab=len(pieces), d_mlp=16,
        act_fn="relu", seed=0,
    )  # fmt: skip
    bridge = TransformerBridge.boot_native(config)
    return LoadedModel("tiny", bridge, Tokenizer(backend, bos=0), digest="0" * 64)


@contextmanager
def able(model: LoadedModel):
    """Within the context, embeddings say how words begin."""
    table = model.bridge.W_E
    before = table.detach().clone()
    try:
        with torch.no_grad():
            for token in range(2, model.d_vocab):
                table[token, (token - 2) // LEAST_WORDS] += 20 * before.std()
        yield
    finally:
        table.data.copy_(before)


def test_a_model_that_cannot_spell_is_given_no_figure_and_one_that_can_is(model) -> None:
    with pytest.raises(DataError, match=r"tiny cannot spell at resid_pre.0: .* no figure is given"):
        spelling(model, SITE)
    with able(model):
        found = spelling(model, SITE)
    assert found.accuracy > 0.9
    assert found.letters == tuple("abcde")
    assert found.x.shape == (5 * LEAST_WORDS, WIDTH)
    assert absorption([basis(False)], found)[0].accuracy == found.accuracy


def test_the_command_prints_figures_or_the_sentence(model, workspace, capsys) -> None:
    store = make_store(workspace.store("tiny"), sites={SITE: WIDTH}, rows=300, model="tiny")
    out = workspace.dictionary("tiny", SITE, "sae")
    train(store, SITE, TopK(latents=24, k=3), TrainConfig(tokens=512, batch=128), out=out)
    args = Namespace(site=SITE, seed=0, json=False)
    capsys.readouterr()
    found = absorptions(args, store, model, workspace, ["sae"])
    assert list(found) == ["cannot"]
    assert found["cannot"] in capsys.readouterr().out
    with able(model):
        found = absorptions(args, store, model, workspace, ["sae"])
    assert found["dictionaries"][0]["basis"] == "sae"
    assert "same width and L0 only" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="name an SAE"):
        absorptions(args, store, model, workspace, ["neurons"])


def test_wrong_use_is_refused(model) -> None:
    planted, _ = words()
    with pytest.raises(ConfigError, match="leave it out"):
        absorption([basis(False, target="mlp_out.0", target_width=WIDTH)], planted)
    with pytest.raises(ConfigError, match="leave it out"):
        absorption([basis(False, site="resid_post.0+resid_post.1")], planted)
    tokens, model.tokenizer = model.tokenizer, None
    try:
        with pytest.raises(ConfigError, match="no tokenizer"):
            spelling(model, SITE)
    finally:
        model.tokenizer = tokens
    few = Tokenizer(Backend(WordLevel({"<unk>": 0, "Ġcat": 1}, unk_token="<unk>")), bos=None)
    model.tokenizer = few
    try:
        with pytest.raises(DataError, match="0 letters only"):
            spelling(model, SITE)
    finally:
        model.tokenizer = tokens
