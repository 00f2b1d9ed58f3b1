"""The account: which documents and texts were dropped, why, and some of them by name."""

from __future__ import annotations

from collections import Counter, defaultdict

from fletching.report import Report

SHOWN_NAMES = 3
UNKNOWN_ENCODING = "of an unknown encoding"
# Reasons that follow from what the user passed or from usual folders: counted, not named.
EXPECTED = ("hidden", "excluded", "not included", "of another format", "empty")


class Account:
    """Counts documents and texts, and names documents that a user would want to know of.

    Rows in are documents; each text, and each paragraph that is dropped as boilerplate or
    navigation, beyond one a document is an addition.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.documents: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.names: dict[str, list[str]] = defaultdict(list)
        self.extensions: Counter[str] = Counter()
        self.encodings: dict[str, list[str]] = defaultdict(list)
        self.fallbacks: list[str] = []
        self.read = 0
        self.pieces = 0

    def drop_document(self, source: str, reason: str) -> None:
        """A document that gives no text."""
        self.documents[reason] += 1
        self.names[reason].append(source)
        if reason == "of another format":
            name = source.rsplit("/", 1)[-1]
            self.extensions["." + name.rsplit(".", 1)[-1].lower()] += 1

    def drop_text(self, reason: str) -> None:
        """A piece of a document that is not written."""
        self.pieces += 1
        self.texts[reason] += 1

    def close(self) -> None:
        """Enter everything into the report, and say what a user should see."""
        report = self.report
        dropped = self.documents.total()
        report.rows_in = self.read + dropped
        report.add("further texts", self.pieces - self.read)
        for reason, count in (self.documents + self.texts).items():
            report.drop(reason, count)
        report.measures |= {
            "documents": {"in": report.rows_in, "read": self.read, **_sorted(self.documents)},
            "texts": {"made": self.pieces, **_sorted(self.texts)},
            "encodings": {codec: len(names) for codec, names in sorted(self.encodings.items())},
            "read_as_plain_text": len(self.fallbacks),
        }
        self._note_names()

    def _note_names(self) -> None:
        for reason, names in sorted(self.names.items()):
            if reason not in EXPECTED:
                advice = "; --encoding E reads them" if reason == UNKNOWN_ENCODING else ""
                self.report.note(f"{reason}: {_some(names)}{advice}")
        if self.extensions:
            shown = [f"{count:,} {name}" for name, count in self.extensions.most_common(8)]
            more = ", …" if len(self.extensions) > len(shown) else ""
            self.report.note(f"of another format: {', '.join(shown)}{more}")
        for codec, names in sorted(self.encodings.items()):
            if codec != "utf-8":
                self.report.note(f"read as {codec}: {_some(names)}")
        if self.fallbacks:
            self.report.note(f"broken, so read as plain text: {_some(self.fallbacks)}")


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} and {more:,} more (--rejects FILE names all)" if more > 0 else shown
