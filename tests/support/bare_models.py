"""Tiny random models of real Hugging Face classes, without sentence-transformers modules: nothing but a config,
weights and a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZES = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    vocab_size=300,
    max_position_embeddings=128,
)
GROUPED = SIZES | dict(num_key_value_heads=2, head_dim=8)


def configs() -> dict[str, Any]:
    import transformers as t

    ids = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    layer_types = ["sliding_attention", "full_attention"]
    return {
        "gemma3": t.Gemma3TextConfig(
            **GROUPED,
            **ids,
            use_bidirectional_attention=True,
            sliding_window=64,
            layer_types=layer_types,
        ),
        "gemma": t.GemmaConfig(**GROUPED, **ids),
        "qwen3": t.Qwen3Config(**GROUPED, **ids),
        "mistral": t.MistralConfig(**GROUPED, **ids, sliding_window=None),
        "llama": t.LlamaConfig(**GROUPED, **ids),
        "modernbert": t.ModernBertConfig(
            **SIZES, **ids, cls_token_id=1, sep_token_id=2, global_attn_every_n_layers=2
        ),
    }


def build(folder: Path, kind: str, *, head: bool = False, **changes: Any) -> str:
    """Save one; head: with the head of a language model, as most decoders are published. changes: of its config."""
    import torch
    import transformers

    config = configs()[kind]
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto = transformers.AutoModelForCausalLM if head else transformers.AutoModel
        network = auto.from_config(config).float()
    network.save_pretrained(folder)
    tokenizer(config.max_position_embeddings).save_pretrained(folder)
    return str(folder)


def tokenizer(length: int = 128) -> Any:
    """One token a byte: no text is unknown."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "<s>", "</s>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE({piece: i for i, piece in enumerate([*special, *letters])}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=length,
    )
