"""SAEDashboard's own pass over a model: tasks ``activations`` and ``dashboard`` on stdin.

Arguments: a folder with tokens.npy [prompts, context], and for a real model the folder of its
weights (Llama's architecture) and the hook. ``activations`` writes what a seeded one-layer
transformer gives there as activations.npy. ``dashboard`` takes sae.npz and computes and writes as
many dashboards as the file's ``features`` says, as its tutorial does.
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ.get("INTERP_PEERS_PATH", ""))

import numpy as np
import torch
from sae_dashboard.data_writing_fns import save_feature_centric_vis
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import HookedSAETransformer, JumpReLUSAE, JumpReLUSAEConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
HOOK = sys.argv[3] if len(sys.argv) > 3 else "blocks.0.hook_resid_post"
tokens = torch.from_numpy(np.load(folder / "tokens.npy")).long()
torch.set_grad_enabled(False)


def toy() -> HookedSAETransformer:
    """A seeded transformer of one layer over 2,000 words."""
    words = {f"w{number}": number for number in range(2000)}
    made = HookedSAETransformer(
        HookedTransformerConfig(
            n_layers=1,
            d_model=64,
            d_head=16,
            n_ctx=tokens.shape[1],
            d_vocab=2000,
            act_fn="gelu",
            seed=0,
            device="cpu",
        )
    )
    made.tokenizer = PreTrainedTokenizerFast(  # set_tokenizer would look for it on the hub
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w1")),
        bos_token="w0",
        eos_token="w0",
        pad_token="w0",
        padding_side="right",
    )
    return made


def real(path: str) -> HookedSAETransformer:
    """A model of Llama's architecture from its folder, with the settings TransformerLens has."""
    llama = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)
    theirs = llama.config
    d_head = theirs.hidden_size // theirs.num_attention_heads
    made = HookedSAETransformer(
        HookedTransformerConfig(
            n_layers=theirs.num_hidden_layers,
            d_model=theirs.hidden_size,
            d_head=d_head,
            n_heads=theirs.num_attention_heads,
            n_key_value_heads=theirs.num_key_value_heads,
            d_mlp=theirs.intermediate_size,
            n_ctx=tokens.shape[1],
            d_vocab=theirs.vocab_size,
            eps=theirs.rms_norm_eps,
            act_fn=theirs.hidden_act,
            normalization_type="RMS",
            final_rms=True,
            gated_mlp=True,
            positional_embedding_type="rotary",
            rotary_adjacent_pairs=False,
            rotary_dim=d_head,
            rotary_base=json.loads((Path(path) / "config.json").read_text())["rope_parameters"][
                "rope_theta"
            ],
            device="cpu",
        )
    )
    made.load_state_dict(convert_llama_weights(llama, made.cfg), strict=False)
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    made.tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(path) / "tokenizer.json"), padding_side="right", **ends
    )
    return made


model = real(sys.argv[2]) if len(sys.argv) > 2 else toy()


def activations() -> None:
    """Rows of the hook, prompt after prompt, and the unembedding."""
    _, cache = model.run_with_cache(tokens, names_filter=HOOK)
    np.save(folder / "activations.npy", cache[HOOK].flatten(0, 1).numpy())
    np.save(folder / "unembedding.npy", model.W_U.numpy())


def dashboard() -> None:
    """Compute and write dashboards of the first latents."""
    given = np.load(folder / "sae.npz")
    width, latents = given["W_enc"].shape
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=width, d_sae=latents, apply_b_dec_to_input=True))
    sae.cfg.metadata.hook_name = HOOK
    sae.load_state_dict(
        {name: torch.from_numpy(given[name]) for name in sae.state_dict()}, strict=True
    )
    config = SaeVisConfig(hook_point=HOOK, features=list(range(int(given["features"]))))
    found = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    save_feature_centric_vis(found, folder / "dashboard.html")


for line in sys.stdin:
    start = time.perf_counter()
    {"activations": activations, "dashboard": dashboard}[line.strip()]()
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
