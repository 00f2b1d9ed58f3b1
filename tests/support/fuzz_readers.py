"""All readers of the suite of mutated inputs, by name."""

from __future__ import annotations

from fuzz_models import MODEL_READERS
from fuzz_reader import FuzzedReader
from fuzz_rows import FORMAT_READERS, ROW_READERS, SCHEMA_READERS, TABLE_READERS
from fuzz_servers import SERVER_READERS
from fuzz_settings import SETTINGS_READERS

ALL = [
    *ROW_READERS,
    *SCHEMA_READERS,
    *FORMAT_READERS,
    *TABLE_READERS,
    *SETTINGS_READERS,
    *MODEL_READERS,
    *SERVER_READERS,
]
READERS: dict[str, FuzzedReader] = {reader.name: reader for reader in ALL}
