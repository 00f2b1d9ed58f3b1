"""The model card: what it was made of and how well it does. No training row stands in it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from fletching import lineage


def card(
    *,
    name: str,
    base: str,
    dimension: int,
    step: dict[str, Any],
    plan: list[str],
    lengths: dict[str, int],
    prompts: dict[str, str],
    measures: list[tuple[str, dict[str, float]]],
    loss: str,
) -> str:
    """Markdown with the front matter that the hub reads."""
    front = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "sentence-similarity", "feature-extraction"],
    }
    if "/" in base and not base.startswith((".", "/")):
        front["base_model"] = base
    lines = ["---", yaml.safe_dump(front, sort_keys=True).strip(), "---", "", f"# {name}", ""]
    lines += [
        f"A text-embedding model of {dimension} dimensions, tuned from `{base.rstrip('/').rsplit('/', 1)[-1]}` with contrast-train.",
        "",
    ]
    lines += [
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{name}")',
        "vectors = model.encode_query([...]), model.encode_document([...])",
        "```",
        "",
    ]
    lines += ["## Texts", "", f"Trained on queries of up to {lengths['query']} tokens and documents of up to {lengths['document']}.", ""]
    lines += [f"- {role} prompt: `{json.dumps(prompt, ensure_ascii=False)}`" for role, prompt in prompts.items() if prompt]
    lines += ["", "## Training", "", f"Loss: {loss}.", "", *[f"- {line}" for line in plan], ""]
    if measures:
        names = list(measures[0][1])
        lines += ["## Held-out quality", "", "| model | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        lines += [f"| {label} | " + " | ".join(f"{values[name]:.4f}" for name in names) + " |" for label, values in measures] + [""]
    lines += [
        "## Lineage",
        "",
        " → ".join(lineage.tools(step)),
        "",
        "```json",
        json.dumps(step, indent=1, sort_keys=True, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)
