"""GGUF files as llama.cpp's converter writes them, from a tiny Llama."""

import json
from pathlib import Path

import gguf
import numpy as np
from einops import rearrange
from safetensors.numpy import load_file

from tests.models.tiny import VOCABULARY, save_tokenizer

WIDTH = 64
"""A multiple of 32, as quantised blocks are long."""
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def save_llama(folder: Path) -> None:
    """Random weights, and a tokenizer; read by transformers as they are."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    shape = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    # Far from the defaults, so that a file whose settings are not read gives other numbers.
    rare = {"rms_norm_eps": 0.01, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape, **heads, **ids, **rare))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    save_tokenizer(folder)


def gguf_name(name: str) -> str:
    """Standardised tensor names, as GGUF's specification lists them."""
    if name in OUTER:
        return OUTER[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def write_gguf(
    folder: Path,
    file: Path,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    *,
    architecture: str = "llama",
    extra: dict[str, np.ndarray] | None = None,
    leave_out: str | None = None,
    scaling: float | None = None,
    tokenizer: bool = True,
) -> None:
    """Write the Llama saved in ``folder``, its matrices stored as ``kind``."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, architecture)
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    if scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling)
    if tokenizer:
        add_tokenizer(writer, folder)
    for name, tensor in load_file(folder / "model.safetensors").items():
        target = gguf_name(name)
        if target == leave_out:
            continue
        if target.endswith(("attn_q.weight", "attn_k.weight")):
            # llama.cpp turns neighbouring numbers, transformers those half a head apart.
            count = heads if "attn_q" in target else groups
            tensor = rearrange(tensor, "(h two d) i -> (h d two) i", h=count, two=2)
        if tensor.ndim == 1:
            writer.add_tensor(target, tensor)
        else:
            writer.add_tensor(target, gguf.quantize(tensor, kind), raw_dtype=kind)
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """The byte-level BPE of the folder."""
    saved = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(saved["vocab"], key=saved["vocab"].__getitem__)
    special = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([special] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges([" ".join(pair) for pair in saved["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
