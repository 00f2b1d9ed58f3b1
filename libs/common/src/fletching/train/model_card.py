"""The model card of a trained model. No text that it was trained on stands in it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from fletching import lineage

TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction"]
USE = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
{call}
```"""


def card(
    name: str,
    about: str,
    sections: list[str],
    *,
    step: dict[str, Any],
    call: str,
    base: str = "",
    tags: tuple[str, ...] = (),
) -> str:
    """Markdown with the front matter that the hub reads. call: the line that encodes; base: the model it was made of."""
    front: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [*TAGS, *tags],
    }
    if "/" in base and not base.startswith((".", "/")):
        front["base_model"] = base
    tools = " → ".join(lineage.tools(step))
    made = f"## Lineage\n\n{tools}\n\n```json\n{json.dumps(step, indent=1, sort_keys=True, ensure_ascii=False)}\n```\n"
    head = f"---\n{yaml.safe_dump(front, sort_keys=True).strip()}\n---"
    return "\n\n".join(
        [head, f"# {name}", about, USE.format(name=name, call=call), *sections, made]
    )


def short(model: str) -> str:
    """The name of a model without the folder it lies in."""
    return model.rstrip("/").rsplit("/", 1)[-1]


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def prompts(given: dict[str, str]) -> list[str]:
    """One section that names the prompts, or none."""
    lines = [
        f"{role} prompt: `{json.dumps(prompt, ensure_ascii=False)}`"
        for role, prompt in given.items()
        if prompt
    ]
    return [bullets(lines)] if lines else []


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def measures(title: str, rows: dict[str, dict[str, float]], first: str) -> list[str]:
    """One section with a line of measures for each key, or none. first: what the keys are."""
    if not rows:
        return []
    names = list(next(iter(rows.values())))
    cells = [[label, *(f"{values[name]:.4f}" for name in names)] for label, values in rows.items()]
    return [f"## {title}", table([first, *names], cells)]
