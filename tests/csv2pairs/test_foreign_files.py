"""Files that are not what their name says: workbooks, archives, NUL characters, odd encodings."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest

from fletching.io.sources import Source
from fletching.io.tables import TableOptions, open_table
from fletching.report import Report

QA = ["--query", "q", "--pos", "a"]
CELLS = '<c t="inlineStr"><is><t>{}</t></is></c>'


def workbook(sheets: dict[str, list[list[str]]]) -> bytes:
    """An Excel workbook of texts, and of numbers where a cell begins with =."""
    content = io.BytesIO()
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    names = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1)
    )
    targets = "".join(
        f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    root = f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{package}">{root}</Relationships>')
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}">{targets}</Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>',
        )
        for number, rows in enumerate(sheets.values(), 1):
            lines = "".join(
                "<row>"
                + "".join(
                    f"<c><v>{cell[1:]}</v></c>" if cell[:1] == "=" else CELLS.format(cell)
                    for cell in row
                )
                + "</row>"
                for row in rows
            )
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>',
            )
    return content.getvalue()


BOOK = workbook({"faq": [["q", "a", "n"], ["one", "x", "=7"], ["", "", ""], ["two", "é", "=1.5"]]})


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_a_workbook_is_read_whatever_its_name(pairs, name):
    result = pairs(BOOK, *QA, "--keep n", name=name)
    assert [(row["query"], row["pos"], row["n"]) for row in result.rows] == [
        ("one", ["x"], "7"),
        ("two", ["é"], "1.5"),
    ]


def test_a_sheet_is_chosen_by_name_and_the_first_one_is_told(pairs):
    book = workbook({"faq": [["q", "a"], ["1", "x"]], "old": [["q", "a"], ["2", "y"]]})
    result = pairs(book, *QA, name="t.xlsx")
    assert [row["query"] for row in result.rows] == ["1"]
    assert "sheet faq is read, not old; --sheet decides" in result.err
    assert pairs(book, *QA, "--sheet old", name="t.xlsx").rows[0]["query"] == "2"
    assert pairs(book, *QA, "--sheet new", name="t.xlsx").rc == 2
    twice = workbook({"s": [["q", "a", "q"], ["1", "x", "y"]]})
    assert "has the column `q` twice" in pairs(twice, *QA, name="t.xlsx").err
    bare = workbook({"s": [["1", "x"], ["2", "y"]]})
    assert len(pairs(bare, *QA, "--columns q,a", name="t.xlsx").rows) == 2
    assert pairs(bare, *QA, "--columns q,a,b", name="t.xlsx").rc == 2


def test_without_its_reader_a_workbook_is_refused_and_never_taken_for_latin_1(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    result = pairs(BOOK, *QA)
    assert result.rc == 1
    assert "is a workbook" in result.err
    assert "save it as CSV" in result.err
    assert "latin" not in result.err


def test_an_archive_and_a_damaged_workbook_are_refused_as_such(pairs):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("t.csv", "q,a\n1,x\n")
    assert "is a ZIP archive" in pairs(content.getvalue(), *QA).err
    assert "is a ZIP archive" in pairs(BOOK[:-40], *QA).err
    assert (
        "no readable workbook" in pairs(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"0" * 600, *QA).err
    )


def test_a_nul_character_is_told_as_such_and_kept_where_the_encoding_is_named(pairs):
    table = "q,a\n1,x\n2,é\0y\n".encode()
    result = pairs(table, *QA)
    assert result.rc == 1
    assert "line 3: a NUL character" in result.err
    assert "latin" not in result.err
    assert pairs(table, *QA, "--encoding utf-8").rows[1]["pos"] == ["é\0y"]


@pytest.mark.parametrize("name", ["undefined", "rot13", "hex", "a\0b", "no such", ""])
def test_an_encoding_that_decodes_no_text_is_a_usage_error(pairs, name):
    result = pairs(b"q,a\n1,x\n", *QA, f"--encoding={name}") if name else None
    assert result is None or result.rc == 2


HANGUL = "배송은 얼마나 걸리나요 반품은 어떻게 하나요"
CHINESE = "请问这件商品的价格是多少，什么时候可以发货到我家"
FRENCH = "Déjà vu à Noël, où l'été s'achève"


def test_hangul_in_cp949_is_chosen_by_script_and_told(pairs):
    result = pairs(f"q,a\n{HANGUL},답\n".encode("cp949"), *QA)
    assert result.rows[0]["query"] == HANGUL
    assert "read as cp949: its letters are Hangul" in result.err
    assert "cp1252" in result.err
    chinese = pairs(f"q,a\n{CHINESE},b\n".encode("gb18030"), *QA)
    assert chinese.rc == 1
    assert "could be" in chinese.err
    assert pairs(f'q,a\n"{FRENCH}",b\n'.encode("cp1252"), *QA).rows[0]["query"] == FRENCH


def test_tables_are_read_by_the_library_with_an_account_of_bad_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"q;a\n1;x\n2\n3;y\n")
    report = Report("reader", quiet=True)
    table = open_table(Source("t.csv", str(path)), TableOptions(bad_rows="drop"), report)
    assert table.columns == ["q", "a"]
    rows = [row for batch in table.batches() for row in batch.to_pylist()]
    assert rows == [{"q": "1", "a": "x"}, {"q": "3", "a": "y"}]
    assert report.dropped == {"with the wrong number of cells": 1}
    assert report.notes == ["dropped t.csv, row 2: 1 cells instead of 2: 2"]
    path = tmp_path / "t.json"
    path.write_bytes(b'{"q": "1", "n": 1.10}\n{"q": ["2", "3"], "a": true}\n')
    table = open_table(Source("t.json", str(path)), TableOptions(), report)
    (batch,) = table.batches()
    assert batch.schema.names == ["q", "n", "a"]
