"""Named things of one kind: losses, poolings, file formats, judges, guards.

An entry is registered beside its code; the command line, the checks and the model card read the
registry. Adding one touches one file:

    LOSSES = Registry[Loss]("loss", package="contrast_train.losses")

The modules of `package` are imported when the registry is first read, so that no list of them is
kept by hand.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from fletching.errors import UsageError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries by name, in the order of registration.

    kind: what an entry is, for errors. package: its modules, not those of packages in it, register
    entries when they are imported; they must import nothing heavy at their top, since --help reads
    the names.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}
        self._discovered = package is None

    def register(self, name: str, entry: Entry) -> None:
        """Add an entry. Raises ValueError where the name is taken by another."""
        if name in self._entries and self._entries[name] is not entry:
            raise ValueError(f"there are two of {self.kind} {name}")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> Entry:
        self._discover()
        if name not in self._entries:
            guess = difflib.get_close_matches(name, self._entries, 1)
            nearest = f"did you mean {guess[0]}?" if guess else "pass one of " + ", ".join(self)
            raise UsageError(f"{self.kind} {name!r} is not known", nearest)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(self._entries)

    def __len__(self) -> int:
        self._discover()
        return len(self._entries)

    def _discover(self) -> None:
        if self._discovered or self.package is None:
            return
        self._discovered = True  # first: a module may read the registry while it is imported
        package = importlib.import_module(self.package)
        modules = pkgutil.iter_modules(package.__path__)
        for name in sorted(module.name for module in modules if not module.ispkg):
            importlib.import_module(f"{self.package}.{name}")
