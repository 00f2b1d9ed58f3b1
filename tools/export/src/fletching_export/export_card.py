"""The README of an exported folder: ten lines that load it, and the parity report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub import ModelCardData

from fletching.train import model_card as cards
from fletching.train.base_card import BaseCard
from fletching_export.parity import Parity
from fletching_export.runtimes.graph_format import GraphFormat

SERVED_BY = {
    "onnx": "ONNX Runtime runs it in Python, C++, C#, Java, JavaScript and on phones.",
    "openvino": "OpenVINO runs it on processors, GPUs and NPUs of Intel, and on Arm.",
}
TEMPLATE = """\
# {name}

{summary}

## Usage

```sh
{install}
```

```python
{usage}

vectors = encode(["How do I reset my password?"]{query_prompt})  # run it in this folder
```

{facts}

## Parity with torch

{table}

{reading}

## Files

{files}
"""


@dataclass(frozen=True, kw_only=True)
class ExportCard:
    """What the card of an export says.

    base: of the model that was exported. inputs: of the graph. prompts: by role. has_layout: does
    the folder have the files that sentence-transformers' backends read?
    """

    name: str
    source: str
    base: BaseCard
    format: GraphFormat
    dtype: str
    inputs: Sequence[str]
    dimension: int
    length: int | None
    pooling: str
    prompts: Mapping[str, str]
    parity: Parity
    has_layout: bool

    def render(self) -> str:
        """The card as Markdown with front matter."""
        body = TEMPLATE.format(
            name=self.name,
            summary=self._summary(),
            install=self.format.install,
            usage=self.format.usage(self.inputs),
            query_prompt=f", {self.prompts['query']!r}" if self.prompts.get("query") else "",
            facts=cards.bullet_list(self._facts()),
            table=cards.markdown_table(*self._table()),
            reading=self._reading(),
            files=cards.bullet_list(self._files()),
        )
        return f"---\n{self._data().to_yaml()}\n---\n\n{body}"

    def _data(self) -> ModelCardData:
        is_quantised = self.dtype == "int8" and self.source == self.base.name
        return ModelCardData(
            library_name="sentence-transformers" if self.has_layout else None,
            pipeline_tag=cards.TASK,
            tags=[*cards.TAGS, self.format.name],
            base_model=self.base.name or None,
            base_model_relation="quantized" if is_quantised else None,
            license=self.base.license or None,
            license_name=self.base.license_name or None,
            license_link=self.base.link or None,
            language=list(self.base.languages) or None,
        )

    def _summary(self) -> str:
        licence = f"\n\n**Licence:** {self.base.restriction}" if self.base.restriction else ""
        return (
            f"`{self.source}` as one {self.format.summary} graph with weights in {self.dtype}, "
            f"from tokens to vectors of {self.dimension} dimensions. "
            f"{SERVED_BY[self.format.name]}{licence}"
        )

    def _facts(self) -> list[str]:
        named = [role for role, prompt in self.prompts.items() if prompt]
        facts = [
            f"Inputs: {', '.join(f'`{name}`' for name in self.inputs)}, int64, (texts, tokens); "
            "any number of either.",
            f"Outputs: `sentence_embedding` (texts, {self.dimension}): use this. "
            "`last_hidden_state`: for servers that pool by themselves.",
            f"Pooling: {self.pooling}, inside the graph.",
        ]
        if self.length:
            facts.append(f"Texts are cut after {self.length} tokens, by tokenizer.json.")
        if named:
            facts += cards.prompts_section(self.prompts)[0].removeprefix("- ").split("\n- ")
            facts.append("Pass the prompt to `encode`: the graph does not know it.")
        else:
            facts.append("No prompt: texts go in as they are.")
        return facts

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header, *rows = self.parity.rows(f"{self.format.name} {self.dtype}")
        return header, rows

    def _reading(self) -> str:
        parity = self.parity
        sentence = (
            f"{self.format.version} beside sentence-transformers, {parity.threads} threads of one "
            "machine's CPU, tokenizing included; times differ elsewhere."
        )
        if self.dtype == "int8":
            sentence += (
                " int8 loses precision: the cosines above say how much. Vectors of this model and "
                "of torch should not be mixed in one index without a look at them."
            )
        if not parity.retrieval:
            sentence += " What is lost in search is measured with `--examples FILE`."
        return sentence

    def _files(self) -> list[str]:
        files = [
            f"`{self.format.file}`: the graph",
            "`tokenizer.json`: truncates and pads",
            "`fletching_export.json`: all of this for programs; `fletching.json`: the lineage",
        ]
        if self.has_layout:
            files.append(
                "`modules.json` and the folders beside it: where optimum is installed, "
                f'`SentenceTransformer(folder, backend="{self.format.name}")` reads them'
            )
        return files
