"""Relevance judgements in BEIR's and TREC's tab-separated form: query-id, corpus-id, score."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from fletching.errors import InputError

Grades = dict[str, dict[str, int]]


def read_qrels(path: str) -> Grades:
    """The grade of each judged document, by query id and document id; a header line is skipped.

    Raises InputError, with the line, where one does not hold two ids and a whole number.
    """
    grades: Grades = {}
    try:
        for query, document, grade in _judgements(path):
            grades.setdefault(query, {})[document] = grade
    except OSError as error:
        raise InputError(f"cannot read qrels {path}: {error.strerror}", "check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8", "give BEIR's qrels/*.tsv") from None
    except csv.Error as error:  # a cell longer than 128 kB
        what = f"{path} holds no judgements ({error})"
        raise InputError(what, "give BEIR's qrels/*.tsv") from None
    return grades


def _judgements(path: str) -> Iterator[tuple[str, str, int]]:
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        for number, cells in enumerate(lines, 1):
            if number == 1 and cells[-1:] == ["score"]:
                continue
            try:
                query, document, grade = cells
                yield query, document, int(grade)
            except ValueError:
                raise InputError(
                    f"{path}, line {number:,}: {cells!r}",
                    "write query-id, corpus-id and a whole number, tab between",
                ) from None
