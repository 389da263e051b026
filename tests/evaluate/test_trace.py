"""A traced prompt: sums against the model's logits, edges against differences, every refusal."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import WordLevel

from interp.cli import main
from interp.errors import ConfigError, DataError
from interp.evaluate.causal import TraceConfig, trace
from interp.evaluate.causal.prompt import window
from interp.models import LoadedModel
from interp.models.tokenizer import Tokenizer
from tests.evaluate.test_causal import VOCAB, WIDTH, latents, site_of, tiny
from tests.stores import make_store

FIRST, LAST = "resid_post.0", "resid_post.1"
WORDS = ["cat", "sat", "on", "the", "mat", "and", "saw", "my", "dog", "too"]
PROMPT = " cat sat on the mat and saw"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    found = tiny()
    pieces = ["<bos>", "<unk>", *(f"Ġ{word}" for word in WORDS)]
    pieces += [f"Ġ{'x' * (n + 1)}" for n in range(VOCAB - len(pieces))]
    backend = Backend(WordLevel({each: i for i, each in enumerate(pieces)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    found.tokenizer = Tokenizer(backend, bos=0)
    return found


@pytest.fixture(scope="module")
def sources(model):
    """A dictionary of each site; the bias lies where a trained one's does."""
    ids = window(model, PROMPT)
    found = [latents(LAST, WIDTH), latents(FIRST, WIDTH)]
    for basis in found:
        basis.dictionary.b_dec.copy_(site_of(model, ids, basis.site)[1:].mean(dim=0))
    return found


@pytest.fixture(scope="module")
def found(model, sources):
    return trace(model, sources, PROMPT, config=TraceConfig(steps=40, top=4))


@torch.no_grad()
def test_the_likeliest_token_is_explained_against_the_next(model, found):
    logits = model.forward(window(model, PROMPT)[None])[0, -1]
    best = logits.topk(2)
    assert [found.target.token, found.baseline.token] == best.indices.tolist()
    assert found.target.logit == pytest.approx(float(best.values[0]), abs=1e-5)
    assert found.target.probability == pytest.approx(float(logits.softmax(0).max()), abs=1e-6)
    assert found.tokens == ("<bos>", *(f" {word}" for word in PROMPT.split()))
    assert [stage.site for stage in found.stages] == [FIRST, LAST]


def test_at_the_last_site_straight_paths_add_up_to_the_logits(found):
    """Nothing but the final norm and the unembedding is behind it."""
    direct = found.stages[1].direct
    difference = found.target.logit - found.baseline.logit
    assert direct.latents + direct.error + direct.bias == pytest.approx(difference, abs=1e-4)
    for node, straight in zip(found.stages[1].graph.nodes, direct.nodes, strict=True):
        assert (straight == 0) == (node.position != len(found.tokens) - 1)
    assert any(direct.nodes)


def test_every_sum_accounts_for_the_actual_difference(found):
    for stage in found.stages:
        for graph in (stage.graph, *stage.edges):
            assert graph.completeness == pytest.approx(1, abs=0.05)
    assert len(found.stages[0].edges) == 0
    assert len(found.stages[1].edges) == len(found.stages[1].graph.nodes) == 4


def test_edges_are_derivatives(model, sources):
    """Each is z times the change per unit of the earlier latent, by differences in float32."""
    last, first = sources
    ids = window(model, PROMPT)
    found = trace(model, sources, PROMPT, config=TraceConfig(method="gradient", top=3))
    place, step = model.site(FIRST), 1e-2

    def pre(into, node, sign):
        def push(x):
            out = x.clone()
            out[0, node.position] += sign * step * first.dictionary.W_dec[node.latent]
            return out

        with torch.no_grad(), model.substitute(place, push):
            x = site_of(model, ids, LAST)[into.position].double().numpy()
        weights = last.dictionary
        row = (x - weights.b_dec.double().numpy()) @ weights.W_enc[:, into.latent].double().numpy()
        return row + float(weights.b_enc[into.latent])

    stage = found.stages[1]
    for into, edge in zip(stage.graph.nodes, stage.edges, strict=True):
        assert edge.value == pytest.approx(into.activation, abs=1e-4)
        for node in edge.nodes:
            slope = (pre(into, node, 1) - pre(into, node, -1)) / (2 * step)
            assert node.attribution == pytest.approx(node.activation * slope, rel=0.03, abs=1e-3)


def test_named_tokens_are_compared_and_swapping_them_turns_every_sign(model, sources):
    options = {"config": TraceConfig(steps=4, top=3)}
    one = trace(model, sources[:1], PROMPT, token=" dog", baseline=" mat", **options)
    back = trace(model, sources[:1], PROMPT, token=" mat", baseline=" dog", **options)
    assert (one.target.text, one.baseline.text) == (" dog", " mat")
    for here, there in zip(one.stages[0].graph.nodes, back.stages[0].graph.nodes, strict=True):
        assert here.latent == there.latent
        assert here.attribution == pytest.approx(-there.attribution, abs=1e-5)
    assert np.allclose(one.stages[0].direct.nodes, np.negative(back.stages[0].direct.nodes))


def test_it_is_json_and_says_what_made_it(found, sources):
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    made = plain["provenance"]
    assert made["job"] == "trace"
    assert made["config"]["prompt"] == PROMPT
    assert made["parents"][f"{LAST}/sae"] == sources[0].fingerprint
    assert plain["stages"][0]["graph"]["completeness"] == found.stages[0].graph.completeness


def test_wrong_use_is_one_sentence(model, sources):
    with pytest.raises(DataError, match="too short"):
        trace(model, sources, "  \n")
    with pytest.raises(DataError, match="reads 12; shorten"):
        trace(model, sources, " cat" * 12)
    with pytest.raises(ConfigError, match=r"2 tokens of tiny \(' cat' ' sat'\); name one"):
        trace(model, sources, PROMPT, token=" cat sat")
    with pytest.raises(ConfigError, match="0 tokens of tiny"):
        trace(model, sources, PROMPT, token="")
    with pytest.raises(ConfigError, match="its own baseline"):
        trace(model, sources, PROMPT, token=" cat", baseline=" cat")
    with pytest.raises(ConfigError, match="at least one dictionary"):
        trace(model, [], PROMPT)
    with pytest.raises(ConfigError, match="a site of its own"):
        trace(model, [sources[0], sources[0]], PROMPT)
    with pytest.raises(ConfigError, match="steps and top"):
        TraceConfig(top=0)
    words, model.tokenizer = model.tokenizer, None
    try:
        with pytest.raises(ConfigError, match="no tokenizer"):
            trace(model, sources, PROMPT)
    finally:
        model.tokenizer = words


@pytest.fixture
def saved(workspace, tmp_path):
    """A model on disk and a dictionary of each of two of its sites."""
    from interp.sae import TopK, TrainConfig, train
    from tests.models.tiny import save_tiny

    save_tiny("llama", tmp_path / "small")
    store = make_store(
        workspace.store("small"), sites={FIRST: 24, LAST: 24}, rows=300, model="small"
    )
    config = TrainConfig(tokens=512, batch=128)
    for site in (FIRST, LAST):
        out = workspace.dictionary("small", site, f"of-{site[-1]}")
        train(store, site, TopK(latents=32, k=4), config, out=out)
    return str(tmp_path / "small")


def test_the_command_line(saved, tmp_path, capsys):
    asked = ["trace", saved, f"{LAST},{FIRST}", "--prompt", "To be, or not to be", "--steps", "2"]
    out = tmp_path / "trace.json"
    capsys.readouterr()
    assert main([*asked, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for piece in ("goes on with", "completeness", "error", "direct", f"edges into {LAST}"):
        assert piece in text
    assert main([*asked, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain == json.loads(out.read_text())
    assert [stage["dictionary"] for stage in plain["stages"]] == ["of-0", "of-1"]

    def fails(*more: str, code: int = 2) -> str:
        assert main([*asked, *more]) == code
        (line,) = [each for each in capsys.readouterr().err.splitlines() if "interp trace:" in each]
        return line

    assert "it is a folder; name a file" in fails("--out", str(tmp_path), code=1)
    assert "of-1 is a dictionary of resid_post.1, not of resid_post.0" in fails(
        "--dictionary", "of-1,of-1"
    )
    assert "unknown dictionary of resid_post.1 'nine'" in fails("--dictionary", "nine")
    assert "one a site" in fails("--dictionary", "a,b,c")
    assert "--prompt is empty" in fails("--prompt", " ")
    assert "tokens of small" in fails("--token", "question mark")
    asked[2] = "mlp_out.0"
    assert "has no finished dictionary of mlp_out.0" in fails()
    asked[2] = "resid_post.7"
    assert "resid_post.7" in fails()
    asked[1:3] = ["smollm2-135m", FIRST]
    assert "interp models get smollm2-135m" in fails(code=1)
