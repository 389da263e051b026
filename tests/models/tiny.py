"""Tiny transformers of several families, with random weights, saved the way users save theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from interp.models import LoadedModel

VOCABULARY = 300
CONTEXT = 32
TEXTS = ["To be, or not to be, that is the question:", "Whether 'tis nobler in the mind — né ☃"] * 8
FAMILIES = ("llama", "gpt2", "neox")


@dataclass(frozen=True)
class Tiny:
    """One model on disk, and the two ways to run it."""

    family: str
    folder: Path
    model: LoadedModel
    """Ours."""
    reference: torch.nn.Module
    """The same files read by transformers alone."""

    def block(self, layer: int) -> torch.nn.Module:
        """A block of the reference."""
        inner = self.reference.base_model
        return inner.h[layer] if self.family == "gpt2" else inner.layers[layer]

    def attention_out(self, layer: int) -> torch.nn.Module:
        """The matrix that attention writes through."""
        block = self.block(layer)
        names = {"gpt2": "attn.c_proj", "neox": "attention.dense", "llama": "self_attn.o_proj"}
        return block.get_submodule(names[self.family])

    def mlp_out(self, layer: int) -> torch.nn.Module:
        """The matrix that the MLP writes through."""
        block = self.block(layer)
        names = {"gpt2": "mlp.c_proj", "neox": "mlp.dense_4h_to_h", "llama": "mlp.down_proj"}
        return block.get_submodule(names[self.family])


def save_tiny(family: str, folder: Path) -> None:
    """Weights drawn wide, so that every block changes the residual stream a lot."""
    import transformers as hf

    few = {"num_key_value_heads": 2}
    gpt2 = {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
    t5 = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 3, "num_decoder_layers": 2}
    t5 |= {"num_heads": 4, "decoder_start_token_id": 0}
    config, kind, own = {
        "llama": (hf.LlamaConfig, hf.LlamaForCausalLM, few),
        "gpt2": (hf.GPT2Config, hf.GPT2LMHeadModel, gpt2),
        "neox": (hf.GPTNeoXConfig, hf.GPTNeoXForCausalLM, {}),
        "gemma": (hf.GemmaConfig, hf.GemmaForCausalLM, few | {"head_dim": 6}),
        "gemma2": (hf.Gemma2Config, hf.Gemma2ForCausalLM, few | {"head_dim": 6}),
        "gemma3": (hf.Gemma3TextConfig, hf.Gemma3ForCausalLM, few | {"head_dim": 6}),
        "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM, few),
        "qwen3": (hf.Qwen3Config, hf.Qwen3ForCausalLM, few | {"head_dim": 6}),
        "t5": (hf.T5Config, hf.T5ForConditionalGeneration, t5),
        "flan-t5": (
            hf.T5Config,
            hf.T5ForConditionalGeneration,
            t5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        ),
        "olmo2": (hf.Olmo2Config, hf.Olmo2ForCausalLM, few),
        "bloom": (hf.BloomConfig, hf.BloomForCausalLM, {"n_layer": 3, "n_head": 4}),
        "bert": (hf.BertConfig, hf.BertForMaskedLM, {}),
    }[family]
    common = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    shape = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    long = {"max_position_embeddings": CONTEXT, "intermediate_size": 40}
    if family == "gpt2" or "t5" in family:
        shape, long = {}, {}
    if "t5" in family:
        common |= {"bos_token_id": None, "eos_token_id": 1}
    torch.manual_seed(7)
    model = kind(config(**common, **shape, **long, **own))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    save_tokenizer(folder, ("<pad>", "</s>") if "t5" in family else ("<|end|>",))


def save_tokenizer(folder: Path, specials: Sequence[str] = ("<|end|>",)) -> None:
    """A byte-level BPE as transformers saves it, with one special token or with T5's two."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if len(specials) == 1:
        named = {"bos_token": "<|end|>", "eos_token": "<|end|>"}
    else:
        named = {"pad_token": "<pad>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.save_pretrained(folder)


def load_reference(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The model as transformers alone has it, with the attention that spells out its sums."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return model.eval()
