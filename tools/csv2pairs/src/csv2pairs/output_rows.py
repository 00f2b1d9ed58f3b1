"""Examples and texts as rows of the output files."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from csv2pairs.content_ids import with_ids
from csv2pairs.keys import ABSENT, arrow_texts, hashed
from csv2pairs.options import Options
from csv2pairs.rows import KEPT
from csv2pairs.stored_pairs import StoredPairs
from fletching import schema
from fletching.io import Writer
from fletching.schema import cast
from fletching.table import GrowingKeySet


class OutputRows:
    """The columns of the output, and rows of them. schema: `examples`, or `texts`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.schema = "texts" if options.mode == "texts" else "examples"
        contract = schema.load(self.schema)
        names = ["id", "text"] if options.mode == "texts" else ["id", "query", "pos"]
        wanted = {
            "neg": options.neg or options.negatives_per_row,
            "domain": options.domain,
            "pos_ids": options.pos_id,
            "neg_ids": options.neg_id,
            "pos_scores": options.score,
            "pos_score_kind": options.score,
        }
        names += [name for name, is_wanted in wanted.items() if is_wanted]
        self.computed = names
        known = [name for name in options.keep if contract.field(name)]
        others = [pa.field(name, pa.string()) for name in options.keep if name not in known]
        self.columns = contract.arrow([*names, *known], others)

    def rows(self, examples: pl.DataFrame) -> pa.Table:
        """Examples in the types of the schema; null where they have to draw first."""
        computed = {"pos_score_kind": pl.lit(self.options.score_kind)}
        if not self.options.neg:
            computed["neg"] = pl.lit(None, pl.List(pl.String))
        examples = examples.with_columns(**computed)
        sources = [name if name in self.computed else KEPT + name for name in self.columns.names]
        arrays = [
            cast(examples[source].rechunk().to_arrow(), field.type)
            for source, field in zip(sources, self.columns)
        ]
        return pa.Table.from_arrays(arrays, schema=self.columns)

    def drawn_rows(
        self, rows: pa.RecordBatch, drawn: pl.DataFrame, pairs: StoredPairs
    ) -> pa.RecordBatch:
        """Rows with what they drew, without those that are dropped."""
        is_kept = drawn["reason"].is_null()
        columns = dict(zip(self.columns.names, rows.filter(is_kept.to_arrow()).columns))
        kept = drawn.filter(is_kept)
        if self.options.mode == "group":
            columns["pos"] = pairs.take_lists(kept["positives"])
        if self.options.negatives_per_row:
            negatives = pairs.take_lists(kept["negatives"])
            if self.options.neg:
                negatives = _joined(columns["neg"], negatives)
            columns["neg"] = negatives
        return pa.RecordBatch.from_arrays(
            list(columns.values()),
            schema=self.columns,
        )


def _joined(lists: pa.ListArray, further: pa.ListArray) -> pa.ListArray:
    """Each list with the further one behind it; null is an empty list."""
    both = pl.DataFrame({"lists": lists, "further": further})
    joined = both.select(pl.concat_list(pl.col("lists").fill_null([]), "further"))
    return cast(joined.to_series().to_arrow(), lists.type)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """The table without chunks."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


class PairTexts:
    """--texts-out: every text of the pairs, or of --texts-template, once in each file."""

    columns = schema.load("texts").arrow(["id", "text"])

    def __init__(self, writer: Writer, options: Options) -> None:
        self.writer = writer
        self.is_template = bool(options.texts_template)
        self.texts_written = GrowingKeySet()

    def write(self, examples: pl.DataFrame) -> None:
        """Write what is new: of the template where there is one, else queries and positives."""
        if self.is_template:
            texts = examples["row_text"]
        else:
            texts = pl.concat([examples["query"], examples["pos"].explode()])
        rows = texts.rename("text").to_frame().with_columns(key=hashed("text"))
        is_new = pl.Series(self.texts_written.add_new(rows["key"].to_numpy()))
        rows = rows.filter(is_new, pl.col("key") != ABSENT)
        rows = with_ids(rows.with_columns(id=pl.lit(None, pl.String)), "text")
        arrays = [arrow_texts(rows["id"]), arrow_texts(rows["text"])]
        self.writer.write(pa.RecordBatch.from_arrays(arrays, schema=self.columns))
