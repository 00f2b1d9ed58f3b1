"""Tiny configurations of real decoder classes: fully convertible ones, and partly causal ones."""

from __future__ import annotations

import transformers as t

IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
SIZES = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    vocab_size=300,
    **IDS,
)
GROUPED = SIZES | dict(num_key_value_heads=2)
HEADED = GROUPED | dict(head_dim=8)
WINDOWED = HEADED | dict(sliding_window=8, layer_types=["sliding_attention", "full_attention"])

CONVERTIBLE = {
    "llama": lambda: t.LlamaConfig(**HEADED),
    "mistral": lambda: t.MistralConfig(**HEADED, sliding_window=None),
    "mistral, window": lambda: t.MistralConfig(**HEADED, sliding_window=8),
    "qwen2": lambda: t.Qwen2Config(**GROUPED),
    "qwen3": lambda: t.Qwen3Config(**HEADED),
    "gemma": lambda: t.GemmaConfig(**HEADED),
    "gemma2": lambda: t.Gemma2Config(**WINDOWED),
    "gemma3": lambda: t.Gemma3TextConfig(**WINDOWED),
    "phi3": lambda: t.Phi3Config(**GROUPED),
}
PARTLY_CAUSAL = {
    "nemotron": ("sdpa", lambda: t.NemotronConfig(**GROUPED)),  # bidirectional only with padding
    "stablelm": ("sdpa", lambda: t.StableLmConfig(**GROUPED)),
    "mamba": (
        "eager",
        lambda: t.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=300, pad_token_id=0),
    ),
    "lfm2": (
        "sdpa",
        lambda: t.Lfm2Config(**GROUPED, layer_types=["full_attention", "conv"]),
    ),  # convolutions stay causal
}
