"""Pairs as rows of `examples`."""

from __future__ import annotations

import pyarrow as pa

from csv2pairs.array_types import Integers
from csv2pairs.options import Options
from csv2pairs.pairing.pair_batch import PairBatch
from csv2pairs.pairing.sampling import SampledBlock
from csv2pairs.pairing.stored_pairs import StoredPairs, cut_lists, take_lists, take_texts
from fletching import schema


class ExampleRows:
    """The columns of the output, and rows of them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.columns = self._columns()

    def _columns(self) -> pa.Schema:
        options = self.options
        contract = schema.load("examples")
        names = ["id", "query", "pos"]
        if options.negatives_per_row:
            names.append("neg")
        if options.domain:
            names.append("domain")
        known = [name for name in options.keep if contract.field(name)]
        others = [pa.field(name, pa.string()) for name in options.keep if name not in known]
        return contract.arrow([*names, *known], others)

    def of_batch(self, batch: PairBatch) -> pa.RecordBatch:
        """Pairs as they were built, without negatives."""
        arrays = {
            "id": batch.ids,
            "query": batch.query,
            "pos": cut_lists(batch.positives.texts, batch.positives.counts),
        }
        return self._assemble(arrays, batch.passed)

    def of_block(self, pairs: StoredPairs, rows: Integers, sampled: SampledBlock) -> pa.RecordBatch:
        """Stored pairs with what they drew, without those that are dropped. rows: (m,)."""
        arrays = {"id": take_texts(pairs.ids, rows), "query": take_texts(pairs.queries, rows)}
        if sampled.positives is not None:
            arrays["pos"] = take_lists(pairs.positives, sampled.positives)
        else:
            arrays["pos"] = pairs.take_positives(rows)
        if sampled.negatives is not None:
            by_query = self.options.negatives_from == "query"
            texts = pairs.queries if by_query else pairs.positives
            arrays["neg"] = take_lists(texts, sampled.negatives)
        examples = self._assemble(arrays, pairs.take_passed(rows))
        return examples if sampled.keep.all() else examples.filter(pa.array(sampled.keep))

    def _assemble(self, arrays: dict[str, pa.Array], passed: pa.RecordBatch) -> pa.RecordBatch:
        """arrays: id, query, pos and neg, where there is one. passed: domain and kept columns."""
        by_name = {name: passed[name] for name in passed.schema.names}
        if self.options.domain:
            by_name["domain"] = passed[self.options.domain]
        by_name |= arrays
        columns = [by_name[name] for name in self.columns.names]
        return pa.RecordBatch.from_arrays(columns, schema=self.columns)
