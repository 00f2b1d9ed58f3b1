"""What a recipe of docs/recipes.md costs, computed from the shape of its model.

  python scripts/recipe_costs.py     print the tables, for docs/recipes.md

Shapes are those of the published configs. A training step of full fine-tuning takes 6 operations a
parameter and token, embeddings left out: they are looked up. The rate is measured: 32 pairs of 128
tokens with all-MiniLM-L6-v2, one thread, bench/results/train_step.md. Memory of full fine-tuning is
16 bytes a parameter: float32 weights, gradients and two moments of AdamW. A LoRA keeps bfloat16
weights, 2 bytes a parameter. Activations come on top and are bounded by --activations.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKENS_OF_A_ROW = 16 + 128 + 128  # a query, a positive, a hard negative
ROWS = 10_000
MEASURED_TOKENS = 2 * 32 * 128
SECONDS = {"with AMX": 3.49, "without": 6.40}  # of CPU, for the measured step


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A transformer as its config states it. gated: two matrices lead into the MLP, not one.

    extra: parameters beside the transformer, such as dense layers after pooling.
    """

    name: str
    recipe: str
    pooling: str
    prompts: str
    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    positions: int = 0
    heads: int = 12
    key_heads: int = 12
    head_size: int = 64
    gated: bool = False
    extra: int = 0
    lora: bool = False
    gain: str = "not measured here"

    @property
    def embedding_parameters(self) -> int:
        """Rows of the token, position and segment tables."""
        segments = 2 if self.positions else 0
        return (self.vocabulary + self.positions + segments) * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Weights that every token passes, without biases and norms, which are below 1 %."""
        width = self.heads * self.head_size
        attention = self.hidden * (2 * width + 2 * self.key_heads * self.head_size)
        mlp = self.hidden * self.intermediate * (3 if self.gated else 2)
        return self.layers * (attention + mlp) + self.extra

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.embedding_parameters + self.layer_parameters


SMALL_BERT = {
    "hidden": 384,
    "intermediate": 1536,
    "vocabulary": 30522,
    "positions": 512,
    "head_size": 32,
}
BASE_BERT = {"hidden": 768, "intermediate": 3072, "vocabulary": 30522, "positions": 512}
MODELS = [
    ModelShape(
        name="sentence-transformers/all-MiniLM-L6-v2", recipe="minilm.json", pooling="mean", prompts="none",
        layers=6, **SMALL_BERT, gain="[measured](choosing.md): 0 to +0.415",
    ),
    ModelShape(
        name="BAAI/bge-small-en-v1.5", recipe="bge-en.json", pooling="first token", prompts="query only",
        layers=12, **SMALL_BERT,
    ),
    ModelShape(
        name="BAAI/bge-base-en-v1.5", recipe="bge-en.json", pooling="first token", prompts="query only",
        layers=12, **BASE_BERT,
    ),
    ModelShape(
        name="intfloat/e5-base-v2", recipe="e5-base.json", pooling="mean", prompts="`query: `, `passage: `",
        layers=12, **BASE_BERT,
    ),
    ModelShape(
        name="Alibaba-NLP/gte-modernbert-base", recipe="gte-modernbert.json", pooling="first token", prompts="none",
        hidden=768, layers=22, intermediate=1152, vocabulary=50368, gated=True,
    ),
    ModelShape(
        name="google/embeddinggemma-300m", recipe="embeddinggemma-infonce.json", pooling="mean, two dense layers",
        prompts="saved in the model", hidden=768, layers=24, intermediate=1152, vocabulary=262144, heads=3,
        key_heads=1, head_size=256, gated=True, extra=2 * 768 * 3072,
    ),
    ModelShape(
        name="Qwen/Qwen3-Embedding-0.6B", recipe="qwen3-embedding.json", pooling="last token",
        prompts="an instruction before queries, saved in the model", hidden=1024, layers=28, intermediate=3072,
        vocabulary=151669, heads=16, key_heads=8, head_size=128, gated=True, lora=True,
    ),
]  # fmt: skip


def training_seconds(model: ModelShape, units: str) -> float:
    """CPU seconds of one epoch of ROWS rows. units: a key of SECONDS."""
    reference = MODELS[0].layer_parameters * MEASURED_TOKENS
    return SECONDS[units] * model.layer_parameters * TOKENS_OF_A_ROW * ROWS / reference


def memory_bytes(model: ModelShape) -> float:
    """Of weights, gradients and optimiser."""
    return model.parameters * (2 if model.lora else 16)


def costs_table() -> str:
    """A row for each model; times and memory are computed, the first model's rate is measured."""
    lines = [
        "| base | parameters | time with AMX, computed | without | memory, computed | gain, nDCG@10 |",
        "|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        times = [_clock(training_seconds(model, units)) for units in SECONDS]
        kind = ", LoRA" if model.lora else ""
        memory = f"{memory_bytes(model) / 1e9:.1f} GB{kind}"
        short = model.name.split("/")[1]
        cells = [short, f"{model.parameters / 1e6:,.0f} M", *times, memory, model.gain]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def settings_table() -> str:
    """Recipe, pooling and prompts of each model."""
    lines = ["| base | recipe | pooling | prompts |", "|---|---|---|---|"]
    for model in MODELS:
        recipe = f"[`{model.recipe}`](../examples/recipes/{model.recipe})"
        cells = [f"`{model.name}`", recipe, model.pooling, model.prompts]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    print(settings_table(), costs_table(), sep="\n\n")
