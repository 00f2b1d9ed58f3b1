"""Sections of a model card: what the model is, how it is served, how it was trained."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fletching.options import TrainingOptions
from fletching.train import markdown, metrics_log
from fletching.train.base_card import BaseCard

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MOST_LOGGED = 16  # rows of the training log
PACKAGES = {
    "sentence-transformers": "Sentence Transformers",
    "transformers": "Transformers",
    "torch": "PyTorch",
    "tokenizers": "Tokenizers",
    "fletching": "Fletching",
}
INSTALL = "pip install -U sentence-transformers"


def model_section(model: SentenceTransformer, base: BaseCard) -> list[str]:
    """What the model is: base, length, dimension, similarity, licence, languages, modules."""
    limit: Any = model.max_seq_length
    length = f"{int(limit):,} tokens" if limit and limit != float("inf") else "any"
    facts = [
        "**Model type:** Sentence Transformer",
        f"**Base model:** {_link(base.name)}",
        f"**Longest text:** {length}; the rest is cut",
        f"**Dimensions:** {model.get_embedding_dimension()}",
        f"**Similarity:** {model.similarity_fn_name}",
        f"**Pooling:** {pooling_of(model) or 'mean of static token vectors'}",
        f"**Language:** {_languages(base)}",
        f"**Licence:** {licence_in_words(base)}",
    ]
    architecture = f"```\n{model}\n```"
    return ["## Model", markdown.bullet_list(facts), "### Architecture", architecture]


def _link(name: str) -> str:
    if not name:
        return "not known by a name on the hub; its fingerprint is in `fletching.json`"
    return f"[{name}](https://huggingface.co/{name})"


def _languages(base: BaseCard) -> str:
    if not base.languages:
        return "not stated by the base's card"
    return ", ".join(map(markdown.plain_text, base.languages)) + ", as the base's card says"


def licence_in_words(base: BaseCard) -> str:
    """The licence with what restricts it, or that none is stated."""
    if not base.license:
        return "the base's card states none: ask its authors before you share this model"
    shown = markdown.plain_text(base.license_name or base.license)
    return f"{shown}, that of the base. {base.restriction}".rstrip()


def pooling_of(model: SentenceTransformer) -> str:
    """The pooling mode, "" of a model without pooling."""
    modes = [getattr(module, "pooling_mode", None) for module in model]
    known = [mode for mode in modes if mode]
    return " + ".join([known[0]] if isinstance(known[0], str) else known[0]) if known else ""


# --- usage ---------------------------------------------------------------------------------------


def usage_section(name: str, usage: str, model: SentenceTransformer | None = None) -> list[str]:
    """How the model is loaded and served, with its prompts and pooling.

    usage: the lines of Python that encode.
    """
    python = (
        f"```python\n# {INSTALL}\nfrom sentence_transformers import SentenceTransformer\n\n"
        f'model = SentenceTransformer("{name}")\n{usage}\n```'
    )
    if model is None:
        return ["## Usage", python]
    prompts = {role: prompt for role, prompt in (model.prompts or {}).items() if prompt}
    sections = ["## Usage", python, *prompts_section(prompts)]
    if not pooling_of(model):
        return sections
    return [*sections, "### Serving", *_servers(name, prompts, pooling_of(model))]


def _servers(name: str, prompts: Mapping[str, str], pooling: str) -> list[str]:
    inference = f"```sh\ntext-embeddings-router --model-id {name} --auto-truncate\n```"
    vllm = f"```sh\nvllm serve {name} --runner pooling\n```"
    notes = [f"Both read the pooling ({pooling}) and normalisation from the model's folder."]
    if prompts:
        first = next(iter(prompts))
        notes.append(
            "Text Embeddings Inference puts a prompt before the text where the request names it: "
            f'`{{"inputs": "…", "prompt_name": "{first}"}}`; vLLM puts none, so the client does.'
        )
    else:
        notes.append("There is no prompt: texts are sent as they are.")
    notes.append("`fletching export` writes ONNX and OpenVINO graphs and measures what they lose.")
    return [
        "Text Embeddings Inference:",
        inference,
        "vLLM:",
        vllm,
        markdown.bullet_list(notes),
    ]


def prompts_section(prompts: Mapping[str, str]) -> list[str]:
    """One section that names the prompts that are not empty, or none."""
    lines = []
    for role, prompt in prompts.items():
        if prompt:
            shown = markdown.code(json.dumps(prompt, ensure_ascii=False))
            lines.append(f"{markdown.plain_text(role)} prompt: {shown}")
    return [markdown.bullet_list(lines)] if lines else []


# --- training ------------------------------------------------------------------------------------


def hyperparameters_section(
    options: TrainingOptions,
    *,
    steps: int,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
) -> list[str]:
    """The settings of the optimiser in words.

    steps: that the run took. learning_rate, weight_decay: where the tool chose them.
    """
    rate = options.lr if learning_rate is None else learning_rate
    decay_rate = options.weight_decay if weight_decay is None else weight_decay
    warmup = f"{options.warmup:g} steps" if options.warmup >= 1 else f"{options.warmup:.0%}"
    decay = "constant" if options.schedule == "constant" else f"{options.schedule} decay"
    lines = [
        f"AdamW, learning rate {rate:g}, {decay} after a warm-up of {warmup}",
        f"weight decay {decay_rate:g}, gradients clipped at a norm of {options.clip:g}",
        f"{steps:,} steps of {options.batch:,} rows",
    ]
    accumulate = getattr(options, "accumulate", 1)
    if accumulate > 1:
        lines.append(f"{accumulate} batches accumulated a step")
    if getattr(options, "lora", False):
        alpha = getattr(options, "lora_alpha", None)
        shown = f", alpha {alpha:g}" if alpha else ""
        lines.append(f"LoRA, rank {getattr(options, 'lora_rank', '')}{shown}; the rest is frozen")
    seed = getattr(options, "seed", None)
    return [
        "### Hyperparameters",
        markdown.bullet_list(lines if seed is None else [*lines, f"seed {seed}"]),
    ]


def training_log(path: str, *, best_step: int | None = None) -> list[str]:
    """The loss and the held-out figures over the steps, from the metrics log; [] without one.

    Rows are the evaluations, or steps evenly spread where there was none. The loss is the mean
    since the row above. best_step: of the published weights, in bold.
    """
    lines = metrics_log.read(path)
    losses = {each["step"]: each["value"] for each in lines if each["name"] == "loss"}
    figures: dict[int, dict[str, float]] = {}
    for each in lines:
        if each["split"] == "dev":
            figures.setdefault(each["step"], {})[each["name"]] = each["value"]
    steps = _logged_steps(sorted(losses), sorted(figures))
    if not steps:
        return []
    names = list(dict.fromkeys(name for values in figures.values() for name in values))
    rows = []
    for previous, step in zip([-1, *steps], steps):
        since = [loss for number, loss in losses.items() if previous < number <= step]
        loss = f"{sum(since) / len(since):.4f}" if since else ""
        measured = [_figure(figures.get(step, {}).get(name)) for name in names]
        cells = [f"{step:,}", loss, *measured]
        rows.append([_bold(cell) for cell in cells] if step == best_step else cells)
    table = markdown.markdown_table(["step", "loss", *names], rows)
    bold = " The row in bold is the one that was kept." if best_step in steps else ""
    return ["### Training log", table, f"The loss is the mean since the row above.{bold}"]


def _logged_steps(trained: Sequence[int], evaluated: Sequence[int]) -> list[int]:
    """The steps of the rows: at most MOST_LOGGED, evenly spread, the last one among them."""
    steps = list(evaluated if len(evaluated) > 1 else trained)
    if len(steps) <= MOST_LOGGED:
        return steps
    stride = len(steps) / MOST_LOGGED
    return [steps[int((number + 1) * stride) - 1] for number in range(MOST_LOGGED)]


def _bold(cell: str) -> str:
    return f"**{cell}**" if cell else ""


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def versions_section() -> list[str]:
    """The versions of what trained the model."""
    lines = [f"Python {platform.python_version()}"]
    for package, shown in PACKAGES.items():
        version = importlib.metadata.version(package).partition("+")[0]
        lines.append(f"{shown} {version}")
    return ["### Versions", ", ".join(lines) + "."]
