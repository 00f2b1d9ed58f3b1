"""--html: one static page about the rows: charts, hard negatives, near duplicates, samples.

Inline SVG, all texts escaped, no script, nothing loaded. The page is `templates/page.html.j2`; here
is what it is filled with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowcat.figures.distributions import Summary
from arrowcat.figures.hardest_negatives import HardestNegatives
from arrowcat.figures.near_duplicates import (
    LEAST_RESEMBLANCE,
    MOST_TEXTS,
    NearDuplicate,
    NearDuplicates,
)
from arrowcat.figures.table_statistics import TableStatistics
from arrowcat.figures.text_measure import TextMeasure
from arrowcat.page.charts import HistogramChart, draw_histogram
from arrowcat.printable import lines
from arrowcat.rows.input_rows import type_name
from arrowcat.rows.row_selection import NumberedRows, RowSample
from arrowcat.terminal.cell_text import bare, format_number
from fletching import lineage
from fletching.io import Reader
from fletching.page import page_environment
from fletching.table import atomic

SAMPLES = 12
MOST_HARD = 15
MOST_PAIRS = 15
MOST_GROUPS = 30
MOST_ITEMS = 5  # of a list in a sample
NAMES = ("id", "task", "domain")  # stand above the texts of a sample
SIDES = ("pos", "neg")
# The columns, by schema, whose texts are compared with one another.
COMPARED = {"examples": ("query", "pos"), "texts": ("text",)}
NOUNS = {"query": "Queries", "pos": "Positives", "text": "Texts"}
MOST_VALUES = 8
BINS = 24
LONGEST_TEXT = 800  # letters of a text on the page


class NearDuplicateSection(NamedTuple):
    """Texts of one role that resemble each other."""

    role: str
    total: int
    shown: Sequence[NearDuplicate]
    left_out: int


class SampleText(NamedTuple):
    """A text of a row: the label before it, its role, and its score, where it has one."""

    label: str
    role: str
    text: str
    score: float | None = None


class Sample(NamedTuple):
    """A row: its number, what stands above it, and its texts."""

    number: int
    details: list[str]
    texts: list[SampleText]


class PageContent:
    """What the page shows, gathered in one pass over the rows."""

    def __init__(self, reader: Reader, measure: TextMeasure, *, seed: int) -> None:
        self.reader = reader
        self.statistics = TableStatistics(reader.schema, reader.columns, measure)
        self.hardest = HardestNegatives(MOST_HARD)
        self.sample = RowSample(SAMPLES, seed, reader.columns)
        self.near = {}
        for name in COMPARED.get(reader.schema.name, ()):
            self.near[name] = NearDuplicates()

    def gather(self, parts: Iterable[NumberedRows]) -> int:
        """Look at all rows; how many there were."""
        for part in parts:
            self.statistics.add(part.batch)
            self.sample.add(part)
            if self.reader.schema.name == "examples":
                self.hardest.add(part)
            for name, near in self.near.items():
                rows, texts = _numbered_texts(part, name)
                near.add(rows, texts)
        return self.statistics.rows

    # --- sections --------------------------------------------------------------------------------

    def facts(self) -> list[tuple[str, str]]:
        """(figure, what it counts) for the top of the page."""
        facts = [(f"{self.statistics.rows:,}", "rows")]
        for name, noun in (("pos", "positives a row"), ("neg", "negatives a row")):
            items = self.statistics.columns.get(name)
            summary = items.items.summary() if items else None
            if summary is not None:
                facts.append((format_number(summary.mean), noun))
        duplicates = self.statistics.duplicates
        if duplicates is not None:
            noun = {"query": "repeated queries", "text": "repeated texts"}[self.statistics.main]
            facts.append((f"{duplicates.repeated_texts:,}", noun))
        return facts

    def length_charts(self) -> list[HistogramChart]:
        """The lengths of each column of texts."""
        unit = self.statistics.measure.unit
        charts = []
        for column in self.statistics.columns.values():
            summary = column.lengths.summary()
            if summary is not None and summary.least != summary.most:
                note = f"{unit}, {_spell(summary)}"
                bins = column.lengths.bins(BINS)
                charts.append(draw_histogram(column.name, note, bins, whole=True))
        return charts

    def number_charts(self) -> list[HistogramChart]:
        """Scores and other numbers, and how many items the lists have."""
        charts = []
        for column in self.statistics.columns.values():
            if column.is_name:
                continue
            numbers = column.numbers.summary()
            if numbers is not None:
                bins = column.numbers.bins(BINS)
                charts.append(
                    draw_histogram(column.numbers_name, _spell(numbers), bins, whole=False)
                )
        for name, noun in (("pos", "positives a row"), ("neg", "negatives a row")):
            lists = self.statistics.columns.get(name)
            items = lists.items.summary() if lists else None
            if lists is not None and items is not None and items.least != items.most:
                bins = lists.items.bins(BINS)
                charts.append(draw_histogram(noun, _spell(items), bins, whole=True))
        return charts

    def near_sections(self) -> list[NearDuplicateSection]:
        """Near duplicates among queries and among positives."""
        sections = []
        for name, near in self.near.items():
            pairs = near.pairs()
            section = NearDuplicateSection(
                role=NOUNS[name],
                total=len(pairs),
                shown=pairs[:MOST_PAIRS],
                left_out=near.left_out,
            )
            sections.append(section)
        return sections

    def samples(self) -> list[Sample]:
        """Some rows, drawn at random."""
        samples = []
        for part in self.sample.parts():
            for number, row in zip(part.numbers.tolist(), part.batch.to_pylist()):
                named = [name for name in NAMES if row.get(name)]
                details = [f"{name} {bare(row[name])}" for name in named]
                samples.append(Sample(number, details, list(_sample_texts(row))))
        return samples


def _numbered_texts(part: NumberedRows, name: str) -> tuple[np.ndarray[Any, Any], pa.StringArray]:
    """Each text of a column with the number of its row; of lists, each item."""
    column = part.batch[name]
    if pa.types.is_list(column.type):
        owners = np.asarray(pc.list_parent_indices(column), np.int64)
        return part.numbers[owners], column.flatten()
    return part.numbers, column


def _sample_texts(row: dict[str, Any]) -> Iterator[SampleText]:
    """What a row holds, list items one by one, with the scores beside their texts."""
    shown_elsewhere = {*NAMES, *(f"{side}_scores" for side in SIDES)}
    for name, value in row.items():
        if value is None or name in shown_elsewhere:
            continue
        role = name if name in ("query", *SIDES) else "other"
        if not _is_text_list(value):
            yield SampleText(name, role, bare(value))
            continue
        scores = row.get(f"{name}_scores") or []
        if len(scores) != len(value):
            scores = [None] * len(value)
        for position, item in enumerate(value[:MOST_ITEMS]):
            label = "" if position else name
            text = "null" if item is None else bare(item)
            yield SampleText(label, role, text=text, score=scores[position])
        hidden = len(value) - MOST_ITEMS
        if hidden > 0:
            yield SampleText("", role, f"… {hidden:,} more")


def _is_text_list(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return any(isinstance(item, str) for item in value)


def _spell(summary: Summary) -> str:
    median, p95 = format_number(summary.median), format_number(summary.p95)
    return f"median {median}, 95 % up to {p95}, most {format_number(summary.most)}"


# --- rendering -----------------------------------------------------------------------------------


def write_page(path: str, content: PageContent, *, title: str, version: str) -> None:
    """Write the page; a file of this name is replaced whole or not at all."""
    atomic.write_text(path, render_page(content, title=title, version=version))


def render_page(content: PageContent, *, title: str, version: str) -> str:
    """The page as HTML."""
    statistics, reader = content.statistics, content.reader
    chains = [" → ".join(lineage.tools(node)) for node in reader.lineage_nodes if node]
    return (
        page_environment("arrowcat.page", {"number": _format_or_blank, "text": _shorten})
        .get_template("page.html.j2")
        .render(
            title=title,
            schema=f"{reader.schema.name} {reader.schema.version}".strip(),
            facts=content.facts(),
            chains=sorted(set(chains)),
            lengths=content.length_charts(),
            numbers=content.number_charts(),
            columns=[_column_record(statistics, name) for name in statistics.columns],
            unit=statistics.measure.unit,
            groups={name: group.records(MOST_GROUPS) for name, group in statistics.groups.items()},
            group_sizes={name: len(group) for name, group in statistics.groups.items()},
            hardest=content.hardest,
            near=content.near_sections(),
            least_resemblance=LEAST_RESEMBLANCE,
            most_texts=MOST_TEXTS,
            samples=content.samples(),
            version=version,
        )
    )


def _column_record(statistics: TableStatistics, name: str) -> dict[str, Any]:
    column = statistics.columns[name]
    commonest = column.values.most_common(MOST_VALUES)
    values = [f"{value} {count:,}" for value, count in commonest]
    return {
        "name": name,
        "type": type_name(column.type),
        "nulls": column.nulls,
        "empty": column.empty,
        "lengths": column.lengths.summary(),
        "values": ", ".join(values),
    }


def _format_or_blank(value: float | None) -> str:
    return "" if value is None else format_number(value)


def _shorten(text: str) -> str:
    """A text for the page: cut where it is long, control characters shown."""
    cut = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
    return lines(cut)
