"""Examples and texts as rows of the output files."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from csv2pairs.content_ids import with_ids
from csv2pairs.keys import ABSENT, hashed
from csv2pairs.options import Options
from csv2pairs.rows import KEPT
from csv2pairs.stored_pairs import StoredPairs
from fletching import schema
from fletching.io import Writer
from fletching.table import GrowingKeySet
from fletching.table.ragged_array import offsets_of


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

    @property
    def stored(self) -> list[str]:
        """The columns of examples that they are taken from."""
        computed = [name for name in self.computed if name != "pos_score_kind"]
        if not self.options.neg:
            computed = [name for name in computed if name != "neg"]
        return computed + [KEPT + name for name in self.options.keep if name not in computed]

    def rows(self, examples: pl.DataFrame) -> pa.RecordBatch:
        """Examples in the types of the schema."""
        examples = examples.with_columns(pos_score_kind=pl.lit(self.options.score_kind))
        names = [name if name in self.computed else KEPT + name for name in self.columns.names]
        table = examples.select(names).to_arrow(compat_level=pl.CompatLevel.oldest())
        table = table.rename_columns(self.columns.names).cast(self.columns)
        return _one_batch(table)

    def drawn_rows(self, drawn: pl.DataFrame, pairs: StoredPairs) -> pa.RecordBatch:
        """Examples with what they drew, without those that are dropped."""
        kept = drawn.filter(pl.col("reason").is_null())
        if self.options.mode == "group":
            kept = kept.with_columns(pos=_take_lists(kept["positives"], pairs))
        if self.options.negatives_per_row:
            negatives = _take_lists(kept["negatives"], pairs)
            if self.options.neg:
                given = kept["neg"].fill_null([]).to_frame().with_columns(drawn=negatives)
                negatives = given.select(pl.concat_list("neg", "drawn")).to_series()
            kept = kept.with_columns(neg=negatives)
        return self.rows(kept)


def _take_lists(sources: pl.Series, pairs: StoredPairs) -> pl.Series:
    """Lists of numbers of texts as lists of the texts."""
    numbers = sources.explode(empty_as_null=False)
    texts = pairs.take_texts(numbers).to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = pa.array(offsets_of(sources.list.len().to_numpy()))
    return pl.Series(pa.LargeListArray.from_arrays(offsets, texts))


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


class PairTexts:
    """--texts-out: every text of the pairs, or of --texts-template, once in each file."""

    columns = schema.load("texts").arrow(["id", "text"])

    def __init__(self, writer: Writer, options: Options) -> None:
        self.writer = writer
        self.is_template = bool(options.texts_template)
        self.texts_written = GrowingKeySet()

    @staticmethod
    def stored(options: Options) -> list[str]:
        """The columns of examples that texts are taken from."""
        return ["row_text"] if options.texts_template else ["query", "pos"]

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
        table = rows.select("id", "text").to_arrow(compat_level=pl.CompatLevel.oldest())
        self.writer.write(_one_batch(table.cast(self.columns)))
