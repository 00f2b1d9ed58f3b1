"""The model card: whose student it is and how it was made. No training text stands in it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from fletching import lineage


def card(
    *,
    name: str,
    origin: str,
    dimension: int,
    dims: tuple[int, ...],
    step: dict[str, Any],
    plan: str,
    prompts: dict[str, str],
    loss: str,
    losses: list[tuple[str, float, float]],
) -> str:
    """Markdown with the front matter that the hub reads. losses: (name, first, last)."""
    front = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "sentence-similarity", "feature-extraction", "distillation"],
    }
    lines = ["---", yaml.safe_dump(front, sort_keys=True).strip(), "---", "", f"# {name}", ""]
    lines += [f"A text-embedding model of {dimension} dimensions, made with distill: {origin}.", ""]
    if dims:
        lines += [f"Its vectors can be cut to their first {', '.join(map(str, dims))} numbers.", ""]
    lines += [
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{name}")',
        "vectors = model.encode_query([...]), model.encode_document([...])",
        "```",
        "",
    ]
    lines += [f"- {role} prompt: `{json.dumps(prompt, ensure_ascii=False)}`" for role, prompt in prompts.items() if prompt]
    lines += ["", "## Training", "", f"{plan}. Loss: {loss}.", "", "| loss | first steps | last steps |", "|---|---|---|"]
    lines += [f"| {part} | {first:.4g} | {last:.4g} |" for part, first, last in losses]
    lines += [
        "",
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
