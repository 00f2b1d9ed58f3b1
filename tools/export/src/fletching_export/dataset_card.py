"""The README of rows on the hub: what they are, how many, where from, how they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from huggingface_hub import DatasetCardData

from fletching import lineage
from fletching.schema import Schema
from fletching.train import model_card as cards

TASKS = {
    "examples": ["sentence-similarity", "text-retrieval"],
    "texts": ["feature-extraction", "text-retrieval"],
}
SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
    100_000_000: "10M<n<100M",
}
LARGEST = "n>100M"
USES = {
    "examples": "contrast-train hf://datasets/{name}/{path} --model MODEL -o tuned",
    "texts": "texts2vectors hf://datasets/{name}/{path} --model MODEL -o vectors.parquet",
    "measures": "arrowcat hf://datasets/{name}/{path}",
}
TEMPLATE = """\
# {title}

{summary}

```python
from datasets import load_dataset

rows = load_dataset("{name}", split="train")
```

```sh
{use}
```

## Columns

{columns}

Lists of a column lie side by side with those of its scores and ids. The contract is that of
Fletching's `{schema}` {version}: unknown columns pass through every tool.

## Origin

{origin}
{licence}"""


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What the card of rows says.

    name: of the repository. path: of the file in it. columns: as the file has them. node: the
    lineage of the rows, {} where none is known.
    """

    name: str
    path: str
    schema: Schema
    columns: pa.Schema
    rows: int
    node: lineage.Node
    license: str | None

    def render(self) -> str:
        """The card as Markdown with front matter."""
        tools = lineage.tools(self.node) if self.node else []
        origin = " → ".join(map(cards.plain_text, tools)) if tools else "No tool has stamped them."
        body = TEMPLATE.format(
            title=self.name.rpartition("/")[2],
            name=self.name,
            summary=f"{self.rows:,} rows. {self.schema.description}",
            use=USES[self.schema.name].format(name=self.name, path=self.path),
            columns=cards.markdown_table(["column", "type", "meaning"], self._columns()),
            schema=self.schema.name,
            version=self.schema.version,
            origin=origin,
            licence="" if self.license else "\nNo licence is stated: ask before you use them.\n",
        )
        return f"---\n{self.metadata().to_yaml()}\n---\n\n{body}"

    def metadata(self) -> DatasetCardData:
        """The front matter."""
        data_files: list[dict[str, Any]] = [{"split": "train", "path": self.path}]
        return DatasetCardData(
            license=self.license,
            tags=["fletching", self.schema.name],
            task_categories=TASKS.get(self.schema.name),
            size_categories=[_size_category(self.rows)],
            configs=[{"config_name": "default", "data_files": data_files}],
        )

    def _columns(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        for column in self.columns:
            field = self.schema.field(column.name)
            meaning = "not of this schema" if field is None else field.meaning.replace("|", "\\|")
            kind = str(column.type).replace("item: ", "").replace("|", "\\|")
            rows.append([cards.plain_text(column.name), cards.code(kind), meaning])
        return rows


def _size_category(rows: int) -> str:
    return next((label for limit, label in SIZES.items() if rows < limit), LARGEST)
