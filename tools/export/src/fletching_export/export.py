"""One run of --to: the model as a graph, the report on it, the folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from fletching import cli, lineage
from fletching.encode import model as models
from fletching.errors import InputError, UsageError
from fletching.io import Reader
from fletching.report import Report
from fletching.table import atomic
from fletching.train import hardware
from fletching.train.base_card import BaseCard, read_base_card
from fletching.train.run_dir import apply_umask
from fletching_export import graph, tokenization
from fletching_export.export_card import ExportCard
from fletching_export.options import Options
from fletching_export.parity import Parity, TorchComparison
from fletching_export.retrieval import RetrievalTask, read_task
from fletching_export.runtimes.registry import check_installed, load_format
from fletching_export.sample_texts import SAMPLES

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from fletching_export.speed import Encode

SETTINGS = "fletching_export.json"
LINEAGE = "fletching.json"
CARD = "README.md"
MOST_TEXTS = 2000  # of --texts that are compared
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


class Export:
    """A model on its way to a folder. parity: known after `run`."""

    def __init__(self, options: Options, report: Report, tool: cli.Tool) -> None:
        self.options, self.report, self.tool = options, report, tool
        self.source = options.inputs[0].rstrip("/") or "/"
        check_installed(str(options.to))
        self.format = load_format(str(options.to))
        self.parity: Parity | None = None

    @property
    def is_close_enough(self) -> bool:
        """Does every text reach --min-cosine?"""
        least = self.options.min_cosine
        return least is None or self.parity is None or self.parity.cosine_min >= least

    def run(self) -> None:
        """Write the folder, which appears complete or not at all, and print the report."""
        options = self.options
        output = (options.output or "").rstrip("/")
        texts = self._read_texts()
        tasks = [read_task(argument, self.report) for argument in options.examples]
        hardware.silence_libraries()
        model = graph.load_exportable(self.source)
        self._check_dimensions(model)
        with atomic.new_folder(output) as folder:
            inputs = self._write_graph(model, folder)
            self.parity = self._compare(model, folder, inputs, texts=texts, tasks=tasks)
            self._describe(model, folder, inputs, name=os.path.basename(output))
            apply_umask(folder)
        self._tell(self.parity, texts)

    def _read_texts(self) -> list[str]:
        """The texts of --texts, else the sample. Raises InputError where there are none."""
        if not self.options.texts:
            return list(SAMPLES)
        reader = Reader(self.report, self.options.texts, "texts", count=False)
        texts: list[str] = []
        for batch in reader:
            texts += batch["text"].to_pylist()
            if len(texts) >= MOST_TEXTS:
                self.report.note(f"compares the first {MOST_TEXTS:,} texts of --texts")
                break
        if not texts:
            raise InputError("--texts has no rows", "name a file of `texts`, or leave it out")
        return texts[:MOST_TEXTS]

    def _check_dimensions(self, model: SentenceTransformer) -> None:
        whole, kept = models.dimension(model, self.source), self.options.truncate_dim
        if kept is not None and kept > whole:
            raise UsageError(
                f"--truncate-dim {kept} is above the {whole} dimensions of {self.source}",
                f"pass at most {whole}",
            )

    def _write_graph(self, model: SentenceTransformer, folder: str) -> list[str]:
        """Graph, tokenizer and the files of sentence-transformers; the graph's inputs."""
        tokenizer = tokenization.portable_tokenizer(model, self.source)
        with self.report.progress("tracing", 2, "steps") as progress:
            traced = graph.trace(model, self.source, self.options.truncate_dim)
            progress.advance(1, f"writing {self.options.to}")
            self.format.write(traced, folder, self.options.dtype)
            progress.advance()
        if self._has_layout(model):
            model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
            for name in os.listdir(folder):
                if name in WEIGHTS or (name.startswith("model-") and name.endswith(".safetensors")):
                    os.remove(os.path.join(folder, name))
        tokenizer.save(os.path.join(folder, tokenization.FILE))
        return traced.names

    def _has_layout(self, model: SentenceTransformer) -> bool:
        """Do sentence-transformers' backends read such a model? They know no cut vectors."""
        is_static = type(model[0]).__name__ == "StaticEmbedding"
        return not is_static and self.options.truncate_dim is None

    def _compare(
        self,
        model: SentenceTransformer,
        folder: str,
        inputs: Sequence[str],
        *,
        texts: Sequence[str],
        tasks: Sequence[RetrievalTask],
    ) -> Parity:
        threads = torch.get_num_threads()
        comparison = TorchComparison(
            model,
            self._encoder(folder, inputs, threads),
            truncate_dim=self.options.truncate_dim,
            seed=self.options.seed,
        )
        prompt = models.role_prompt(model, "document", None)
        return comparison.measure(
            [prompt + text for text in texts],
            tasks,
            self.report,
            model_bytes=sum(each.nbytes for each in model.state_dict().values()),
            graph_bytes=_bytes_below(os.path.join(folder, os.path.dirname(self.format.file))),
            threads=threads,
        )

    def _encoder(self, folder: str, inputs: Sequence[str], threads: int) -> Encode:
        """Texts to vectors with the files of the folder alone."""
        session = self.format.open(folder, threads)
        tokenize = tokenization.TokenizerFile(folder, inputs)
        return lambda texts: session(tokenize(texts))

    def _describe(
        self, model: SentenceTransformer, folder: str, inputs: Sequence[str], *, name: str
    ) -> None:
        """The card, the settings and the lineage."""
        assert self.parity is not None
        base = read_base_card(self.source)
        if base.restriction:
            self.report.note(base.restriction)
        card = self._card(model, inputs, base=base, name=name)
        _write(folder, CARD, card.render())
        settings = {
            "format": card.format.name,
            "file": card.format.file,
            "dtype": card.dtype,
            "inputs": list(card.inputs),
            "output": graph.VECTORS,
            "dimension": card.dimension,
            "max_tokens": card.length,
            "pooling": card.pooling,
            "prompts": dict(card.prompts),
            "similarity": str(model.similarity_fn_name),
            "versions": [card.format.version, f"torch {torch.__version__.split('+')[0]}"],
            "parity": self.parity.as_json(),
        }
        _write(folder, SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        node = self._lineage_node(model)
        with open(os.path.join(folder, LINEAGE), "wb") as file:
            file.write(lineage.dump({"step": node}))

    def _card(
        self, model: SentenceTransformer, inputs: Sequence[str], *, base: BaseCard, name: str
    ) -> ExportCard:
        assert self.parity is not None
        pooling = [getattr(module, "pooling_mode", None) for module in model]
        modes = [mode for mode in pooling if mode is not None]
        limit = model.max_seq_length
        return ExportCard(
            name=name,
            source=base.name if base.name and not self._is_tuned else os.path.basename(self.source),
            base=base,
            format=self.format,
            dtype=self.options.dtype,
            inputs=inputs,
            dimension=self.options.truncate_dim or models.dimension(model, self.source),
            length=int(limit) if limit and limit != float("inf") else None,
            pooling=str(modes[0]) if modes else "mean of the token vectors",
            prompts={role: prompt or "" for role, prompt in (model.prompts or {}).items()},
            parity=self.parity,
            has_layout=self._has_layout(model),
        )

    @property
    def _is_tuned(self) -> bool:
        """Was it made of its base here? Then the base's name is not its own."""
        return os.path.exists(os.path.join(self.source, LINEAGE))

    def _lineage_node(self, model: SentenceTransformer) -> lineage.Node:
        settings: dict[str, Any] = {
            "to": self.options.to,
            "dtype": self.options.dtype,
            "model": {"fingerprint": models.fingerprint(model)},
        }
        if self.options.truncate_dim:
            settings["truncate_dim"] = self.options.truncate_dim
        sources = [self._source_node()]
        return lineage.make_node(
            self.tool.name, self.tool.version, options=settings, sources=sources
        )

    def _source_node(self) -> lineage.Node:
        """The node of the program that wrote the model."""
        try:
            with open(os.path.join(self.source, LINEAGE), "rb") as file:
                node: lineage.Node = json.load(file)["step"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            node = {}
        return node if lineage.is_node(node) else {"tool": lineage.UNKNOWN}

    def _tell(self, parity: Parity, texts: Sequence[str]) -> None:
        """The report on stdout, and its figures in --json-summary."""
        rows = parity.rows(f"{self.options.to} {self.options.dtype}")
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        sys.stdout.flush()
        self.report.measures |= parity.as_json()
        if not self.is_close_enough:
            worst = texts[parity.worst]
            self.report.note(
                f"the smallest cosine, {parity.cosine_min:.6f}, is below --min-cosine "
                f"{self.options.min_cosine:g}: {worst[:60]!r}"
            )


def _bytes_below(folder: str) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)
