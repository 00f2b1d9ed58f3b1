"""--json-summary: one shape, which schemas/summary/v1.json publishes."""

from __future__ import annotations

import importlib.resources
import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite import ROOT

from fletching.report import Report

PUBLISHED = ROOT / "schemas" / "summary" / "v1.json"
SCHEMA = json.loads(PUBLISHED.read_text("utf-8"))
REASONS = st.dictionaries(st.text(min_size=1), st.integers(0, 9))


@given(added=REASONS, dropped=REASONS, notes=st.lists(st.text()))
def test_any_run_gives_a_valid_summary(tmp_path_factory, added, dropped, notes):
    path = tmp_path_factory.mktemp("summary") / "s.json"
    report = Report("hnmine", quiet=True, json_summary=str(path))
    for reason, rows in added.items():
        report.add(reason, rows)
    for reason, rows in dropped.items():
        report.drop(reason, rows)
    for note in notes:
        report.note(note)
    report.measures["cosine"] = {"mean": 0.5}
    report.finish()
    summary = json.loads(path.read_text("utf-8"))
    jsonschema.validate(summary, SCHEMA)
    assert set(summary) == set(SCHEMA["properties"]) == set(SCHEMA["required"])


@pytest.mark.parametrize(
    "change", [{"rows_in": -1}, {"dropped": {"x": 0}}, {"notes": "n"}, {"schema_version": "2.0"}]
)
def test_the_schema_refuses_what_no_run_writes(change):
    summary = {
        "schema": "summary", "schema_version": "1.0", "tool": "hnmine", "rows_in": 1, "rows_out": 1,
        "added": {}, "dropped": {}, "measures": {}, "notes": [], "seconds": 0.1,
    }  # fmt: skip
    jsonschema.validate(summary, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(summary | change, SCHEMA)


def test_the_library_carries_the_published_schema():
    packaged = importlib.resources.files("fletching") / "schemas" / "summary" / "v1.json"
    assert packaged.read_text("utf-8") == PUBLISHED.read_text("utf-8")


def test_every_command_writes_it_by_the_common_report():
    for path in (ROOT / "tools").glob("*/src/**/*.py"):
        assert "json_summary =" not in path.read_text("utf-8"), path
