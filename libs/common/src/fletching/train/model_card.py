"""The model card of a trained model, by huggingface_hub. It quotes no training text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fletching import lineage
from fletching.protocols import Lineage

TASK = "sentence-similarity"
TAGS = ("sentence-transformers", TASK, "feature-extraction")
TEMPLATE = """\
# {name}

{summary}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
{usage}
```

{sections}

## Lineage

{tools}

```json
{lineage}
```
"""

MARKUP = re.compile(r"[&<>`|\[\]*_\\]")
Measures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """What a tool says about its model; `render` adds the front matter that the hub reads.

    summary: one sentence. usage: the line of Python that encodes. sections: Markdown, headings
    included. base: the model that it was made of, as --model names it. results: held-out
    measures of this model.
    """

    name: str
    summary: str
    usage: str
    sections: Sequence[str]
    lineage_node: Lineage
    base: str = ""
    tags: Sequence[str] = ()
    results: Sequence[EvalResult] = ()

    def render(self) -> str:
        """The card as Markdown with front matter."""
        data = ModelCardData(
            library_name="sentence-transformers",
            pipeline_tag=TASK,
            tags=[*TAGS, *self.tags],
            base_model=self.base if is_hub_name(self.base) else None,
            model_name=self.name if self.results else None,
            eval_results=list(self.results) or None,
        )
        node = json.dumps(self.lineage_node, indent=1, sort_keys=True, ensure_ascii=False)
        body = TEMPLATE.format(
            name=self.name,
            summary=self.summary,
            usage=self.usage,
            sections="\n\n".join(self.sections),
            tools=" → ".join(map(plain_text, lineage.tools(self.lineage_node))),
            lineage="\n".join(map(printable, node.split("\n"))),
        )
        card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")
        return str(card.content)


def is_hub_name(model: str) -> bool:
    """Is it the name of a model on the hub rather than a folder?"""
    return "/" in model and not model.startswith((".", "/", "~")) and not os.path.isdir(model)


def short_name(model: str) -> str:
    """The name of a model without the folder it lies in."""
    return model.rstrip("/").rsplit("/", 1)[-1]


def bullet_list(lines: Sequence[str]) -> str:
    """Lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def printable(text: str) -> str:
    """A text with control characters as escapes; in JSON, the same JSON but for line ends."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def plain_text(text: str) -> str:
    """A text of the data as Markdown shows it: no element, link, code, table or line of its own."""
    return MARKUP.sub(lambda mark: f"&#{ord(mark[0])};", printable(text))


def code(text: str) -> str:
    """A text as code within a line, whatever backticks it holds."""
    shown = printable(text)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if "`" in shown else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def prompts_section(prompts: Mapping[str, str]) -> list[str]:
    """One section that names the prompts that are not empty, or none."""
    lines = []
    for role, prompt in prompts.items():
        if prompt:
            lines.append(f"{role} prompt: {code(json.dumps(prompt, ensure_ascii=False))}")
    return [bullet_list(lines)] if lines else []


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    header_line, *row_lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    rule = "|" + "---|" * len(header)
    return "\n".join([header_line, rule, *row_lines])


def measures_section(title: str, rows: Mapping[str, Measures], *, label: str) -> list[str]:
    """One section with a line of measures for each key, or none. label: what the keys are."""
    if not rows:
        return []
    names = list(next(iter(rows.values())))
    cells = [
        [plain_text(key), *(f"{values[name]:.4f}" for name in names)]
        for key, values in rows.items()
    ]
    return [f"## {title}", markdown_table([label, *names], cells)]


def held_out_results(measures: Measures, *, dataset: str, task: str = TASK) -> list[EvalResult]:
    """Measures of the model on held-out data, as the hub shows them beside it.

    dataset: what the held-out data is called in the card; task: the hub's name of what was
    measured.
    """
    return [
        EvalResult(
            task_type=task,
            dataset_type="held-out",
            dataset_name=dataset,
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in measures.items()
    ]
