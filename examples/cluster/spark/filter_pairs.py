"""simfilter inside Spark: each partition of a DataFrame of `examples` is one run of the tool, by Arrow streams.

Run by hand with Spark 4 in local mode; in the tests where pyspark is installed.

  spark-submit filter_pairs.py pairs.parquet kept.parquet --model M --min-sim 0.5

Spark keeps neither the order of rows nor our lineage, so this is no replacement of shards: it is for rows that live in Spark.
A tool that fails fails its task, which Spark repeats.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession


def simfilter(options: list[str]):
    """What mapInArrow calls: batches in, batches out, through one process a partition."""

    def filtered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next(batches, None)
        if first is None:
            return
        process = subprocess.Popen(
            ["simfilter", *options, "--quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

        def feed() -> None:
            with process.stdin, pa.ipc.new_stream(process.stdin, first.schema) as out:
                for batch in [first, *batches]:
                    out.write_batch(batch)

        feeder = threading.Thread(target=feed)
        feeder.start()
        for batch in pa.ipc.open_stream(process.stdout):
            if batch.num_rows:
                yield batch.select(["id", "query", "pos", "pos_scores"])
        feeder.join()
        if process.wait():
            raise RuntimeError(f"simfilter ended with {process.returncode}")

    return filtered


if __name__ == "__main__":
    source, target, *options = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.parquet(source).select("id", "query", "pos")
    kept = rows.mapInArrow(
        simfilter(options), "id string, query string, pos array<string>, pos_scores array<float>"
    )
    kept.write.mode("errorifexists").parquet(target)
