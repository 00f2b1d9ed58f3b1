"""What a run trains on: its inputs, rows and batches, copied to disk or streamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contrast_train.data.batch_sampler import BatchPlan
from contrast_train.data.dataset import TrainingDataset
from contrast_train.data.stream_plan import StreamPlan
from contrast_train.data.streamed_dataset import StreamedDataset
from contrast_train.data.task_folders import SCHEMAS, TrainingInputs
from contrast_train.options import Options
from fletching.io.row_groups import RowGroupReader
from fletching.report import Report

if TYPE_CHECKING:
    from fletching.io import Reader
    from fletching.protocols import Lineage
    from fletching.schema import Schema


class StreamedInputs:
    """What a streamed run reads: `examples` or `texts` in Parquet files."""

    def __init__(self, options: Options, report: Report) -> None:
        self.reader = RowGroupReader(
            report, options.inputs, SCHEMAS, limit=options.limit, trains=True
        )

    @property
    def schema(self) -> Schema:
        """That of the rows."""
        return self.reader.schema

    @property
    def readers(self) -> list[Reader]:
        """The one that reads them."""
        return [self.reader]

    @property
    def steps(self) -> list[Lineage]:
        """The lineage of the inputs."""
        return self.reader.lineage_nodes


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a run trains on.

    inputs: what was read; None in processes that read none. digest: of the rows. loss: its name.
    """

    inputs: TrainingInputs | StreamedInputs | None
    digest: str
    loss: str
    dataset: TrainingDataset | StreamedDataset
    plan: BatchPlan | StreamPlan
