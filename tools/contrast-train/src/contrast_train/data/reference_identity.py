"""Which vectors a run learns from and does not train: what is known before anything is encoded."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import xxhash

from contrast_train.data.reference_source import REFERENCES, flag_of, names_vectors
from contrast_train.options import Options
from fletching.encode import model as models
from fletching.encode.stated_model import stated_settings
from fletching.io import Reader
from fletching.io.sources import Source
from fletching.protocols import Lineage
from fletching.report import Report
from fletching.train.distributed import process_group

DTYPE: Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class ReferenceIdentity:
    """What decides the vectors of one option: a model, or files. No path.

    dimension: of the vectors; 0: of files without a row. fingerprint: of the model; None where
    files do not state it. dtype: what the model computes in. digest: of the files. doc_prompt: as
    files state it, None where they do not.
    """

    dimension: int
    fingerprint: str | None
    dtype: str | None = None
    digest: str | None = None
    doc_prompt: str | None = None

    @property
    def is_model(self) -> bool:
        """Or files."""
        return self.digest is None

    @property
    def settings(self) -> Lineage:
        """For the lineage of the trained model."""
        known = {"vectors": self.digest, "fingerprint": self.fingerprint, "dtype": self.dtype}
        return {name: value for name, value in known.items() if value is not None}

    def describe(self) -> str:
        """For the manifest, in few characters."""
        return f"{self.fingerprint} {self.dtype}" if self.is_model else f"vectors {self.digest}"


Identities = dict[str, ReferenceIdentity]  # by the option's field; absent ones are left out


def identify(options: Options) -> Identities:
    """The references of a run. Raises InputError where one cannot be read."""
    identities = {}
    for field in REFERENCES:
        name = getattr(options, field)
        if not name:
            continue
        if field != "guide" and names_vectors(name):
            identities[field] = _identify_files(name)
        else:
            identities[field] = _identify_model(name, options, flag_of(field))
    return identities


def identify_on_machines(options: Options) -> Identities:
    """As `identify`, by one process of each machine; the others take the first one's answer.

    Every process must call it.
    """
    is_first = process_group.local_rank() == 0
    identities = identify(options) if is_first else {}
    everyone = process_group.all_gather(identities)
    return identities or everyone[0]


def _identify_model(name: str, options: Options, flag: str) -> ReferenceIdentity:
    model = models.load(name, trust_remote_code=options.trust_remote_code, option=flag)
    dtype = models.resolve_dtype(DTYPE, models.resolve_devices(options.device)[0])
    return ReferenceIdentity(
        dimension=models.dimension(model, name),
        fingerprint=models.fingerprint(model),
        dtype=models.dtype_name(dtype),
    )


def _identify_files(name: str) -> ReferenceIdentity:
    reader = Reader(Report("contrast-train", quiet=True), [name], "vectors", count=False)
    kind = reader.columns.field("vector").type
    every = itertools.chain.from_iterable(map(stated_settings, reader.lineage_nodes))
    stated = next((settings for settings in every if "fingerprint" in settings), {})
    prompts = stated.get("prompts")
    return ReferenceIdentity(
        dimension=kind.list_size if pa.types.is_fixed_size_list(kind) else 0,
        fingerprint=stated.get("fingerprint"),
        digest=_digest(reader.sources),
        doc_prompt=prompts.get("document") if isinstance(prompts, dict) else None,
    )


def _digest(sources: list[Source]) -> str:
    """xxh3-128 of the bytes of all files."""
    digest = xxhash.xxh3_128()
    for source in sources:
        with source.open() as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def is_same_path(name: str, other: str) -> bool:
    """Do both name one folder, or one model of the hub?"""
    return os.path.realpath(name) == os.path.realpath(other)
