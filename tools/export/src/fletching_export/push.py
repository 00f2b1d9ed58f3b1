"""--push: a model folder, an export, or a file of rows as a repository of the hub."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

from fletching import cli
from fletching.errors import InputError, UsageError
from fletching.io import Reader, Writer
from fletching.report import Report
from fletching.table import atomic
from fletching_export.dataset_card import DatasetCard
from fletching_export.options import Options

CARD = "README.md"
MODEL_FILES = ("modules.json", "config.json", "fletching_export.json", "adapter_config.json")
# Of a folder that fletching-tune wrote: they quote rows, or name paths of this machine.
PRIVATE = ("report.html", "commands.sh", "verdict.json")
SCHEMAS = ("examples", "texts", "measures")
ROWS = "rows.parquet"

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What goes into a repository: by path there, a local file or bytes. left_out: names."""

    repo_type: RepoType
    files: Mapping[str, str | bytes]
    left_out: tuple[str, ...] = ()

    @property
    def card(self) -> str:
        """The README, "" without one."""
        card = self.files.get(CARD, b"")
        return card.decode() if isinstance(card, bytes) else ""

    def sizes(self) -> dict[str, int]:
        """Bytes by path."""
        return {
            path: len(content) if isinstance(content, bytes) else os.path.getsize(content)
            for path, content in self.files.items()
        }


class Upload:
    """One upload. source: a folder, or a file of rows."""

    def __init__(self, source: str, options: Options, report: Report, *, tool: cli.Tool) -> None:
        self.source, self.options, self.report, self.tool = source, options, report, tool
        self.repository = options.push or ""

    def run(self) -> None:
        """Show what would go, or create the repository and commit to it.

        Raises InputError for a path that is neither a model nor rows, without a token, and for
        what the hub refuses.
        """
        if not (self.options.dry_run or get_token()):
            raise InputError(
                "no token of the hub was found",
                "run `hf auth login`, or set HF_TOKEN to a token with write access",
            )
        with self._contents() as contents:
            if contents.left_out:
                names = ", ".join(contents.left_out)
                self.report.note(f"left out, since they quote rows or name paths: {names}")
            if self.options.dry_run:
                self._show(contents)
            else:
                self._send(contents)

    @contextlib.contextmanager
    def _contents(self) -> Iterator[Contents]:
        if os.path.isdir(self.source):
            yield self._model()
        elif os.path.isfile(self.source):
            with atomic.scratch_folder("fletching-export") as scratch:
                yield self._rows(scratch)
        else:
            raise InputError(f"{self.source} is neither a folder nor a file", "check the path")

    def _model(self) -> Contents:
        if self.options.license:
            raise UsageError(
                "--license is of rows; a model's card names its own",
                f"edit `license` in {self.source}/README.md",
            )
        if not any(os.path.exists(os.path.join(self.source, name)) for name in MODEL_FILES):
            raise InputError(
                f"{self.source} holds no model",
                "name a model folder, an exported folder, or one file of rows",
            )
        paths = sorted(_files_below(self.source))
        files: dict[str, str | bytes] = {
            path: os.path.join(self.source, path) for path in paths if path not in PRIVATE
        }
        if CARD in files:
            files[CARD] = self._renamed_card(str(files[CARD])).encode()
        else:
            self.report.note(f"{self.source} has no README.md: the hub will show no card")
        left_out = tuple(path for path in paths if path in PRIVATE)
        return Contents(repo_type="model", files=files, left_out=left_out)

    def _renamed_card(self, path: str) -> str:
        """The card with the model's name on the hub wherever it is loaded or served."""
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        name = re.escape(os.path.basename(os.path.abspath(self.source)))
        loaded = re.compile(rf'(SentenceTransformer\("|--model-id |vllm serve ){name}(?=["\s])')
        return loaded.sub(lambda match: match[1] + self.repository, text)

    def _rows(self, scratch: str) -> Contents:
        """The rows as one Parquet file, and their card."""
        reader = Reader(self.report, [self.source], SCHEMAS)
        is_parquet = self.source.endswith(".parquet")
        data = self.source if is_parquet else os.path.join(scratch, ROWS)
        if is_parquet:
            rows = sum(len(batch) for batch in reader)  # each promise of the schema is checked
        else:
            rows = self._write_parquet(reader, data)
        if not rows:
            raise InputError(f"{self.source} has no rows", "name a file that has some")
        self.report.rows_out = rows
        path = f"data/{os.path.basename(self.source).partition('.')[0]}.parquet"
        card = DatasetCard(
            name=self.repository,
            path=path,
            schema=reader.schema,
            columns=reader.columns,
            rows=rows,
            node=reader.lineage_nodes[0],
            license=self.options.license,
        )
        return Contents(repo_type="dataset", files={CARD: card.render().encode(), path: data})

    def _write_parquet(self, reader: Reader, path: str) -> int:
        with Writer(
            self.report,
            path,
            reader.schema.name,
            columns=reader.columns,
            version=self.tool.version,
            options={},
            sources=[reader],
            count=False,
        ) as writer:
            for batch in reader:
                writer.write(batch)
        return writer.rows

    def _show(self, contents: Contents) -> None:
        """The files with their sizes, and the card, on stdout."""
        visibility = "public" if self.options.public else "private"
        sizes = contents.sizes()
        lines = [
            f"{contents.repo_type} {self.repository} at {constants.ENDPOINT} ({visibility} where "
            "it is new):",
            *(f"{size:>14,}  {path}" for path, size in sizes.items()),
            f"{sum(sizes.values()):>14,}  bytes in {len(sizes)} files; nothing was sent",
        ]
        sys.stdout.write("\n".join(lines) + "\n")
        if contents.card:
            sys.stdout.write(f"\n{CARD}:\n\n{contents.card}")
        sys.stdout.flush()

    def _send(self, contents: Contents) -> None:
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        api = HfApi()
        operations = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
            for path, content in contents.files.items()
        ]
        try:
            api.create_repo(
                self.repository,
                repo_type=contents.repo_type,
                private=not self.options.public,
                exist_ok=True,
            )
            # A model's measures and training index are Parquet, and belong to it.
            warnings.filterwarnings("ignore", message=".*about to commit a data file")
            commit = api.create_commit(
                self.repository,
                operations,
                commit_message=f"Upload {os.path.basename(self.source.rstrip('/'))}",
                repo_type=contents.repo_type,
            )
        # The hub's client, its transports and their threads each raise their own exceptions.
        except Exception as error:
            raise _refusal(self.repository, error) from error
        size = sum(contents.sizes().values())
        self.report.note(f"{len(contents.files)} files, {size / 1e6:,.1f} MB: {commit.commit_url}")
        self.report.measures |= {"commit": commit.commit_url, "bytes": size}


def _files_below(folder: str) -> Iterator[str]:
    """Paths below a folder, but hidden ones."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in names:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(root, name), folder)


def _refusal(repository: str, error: Exception) -> InputError:
    """What the hub or the way to it answered."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return InputError(
            f"the hub refuses to write to {repository} ({status})",
            "use a token with write access to it: `hf auth login`, or HF_TOKEN",
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"{repository} could not be pushed: {reason}",
        f"check the name and the way to {constants.ENDPOINT}, then run it again",
    )
