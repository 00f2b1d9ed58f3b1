"""The model card: what it was made of and how well it predicts. No text that it was trained on stands in it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from fletching import lineage

USE = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
vectors = model.encode([...])
```

Every token sees all others (`is_causal: false` in config.json, which transformers 5.2 and later obey). Its vectors are a
start for contrastive training rather than an end."""


def card(*, name: str, base: str, model: Any, step: dict[str, Any], plan: list[str], measures: dict[int, dict[str, float]]) -> str:
    """Markdown with the front matter that the hub reads. model: as sentence-transformers loads it; measures by step."""
    front: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "sentence-similarity", "feature-extraction"],
    }
    if "/" in base and not base.startswith((".", "/")):
        front["base_model"] = base
    origin = base.rstrip("/").rsplit("/", 1)[-1]
    about = f"A bidirectional text encoder of {model.get_embedding_dimension()} dimensions, made from the decoder `{origin}` with mntp."
    lines = ["---", yaml.safe_dump(front, sort_keys=True).strip(), "---", "", f"# {name}", "", about, "", USE.format(name=name), ""]
    lines += ["## Training", "", *[f"- {line}" for line in plan], ""]
    if measures:
        names = list(next(iter(measures.values())))
        lines += ["## Held-out texts", "", "| step | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        lines += [f"| {at} | " + " | ".join(f"{values[each]:.4f}" for each in names) + " |" for at, values in measures.items()] + [""]
    lines += ["## Lineage", "", " → ".join(lineage.tools(step)), ""]
    lines += ["```json", json.dumps(step, indent=1, sort_keys=True, ensure_ascii=False), "```", ""]
    return "\n".join(lines)
