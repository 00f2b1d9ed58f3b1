"""The documentation cannot drift: generated parts are current and the scripts in it run."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # as a whole: each test starts commands or many examples

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "schemas" / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "build_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_of_all_pages_are_current(docs, capsys):
    code = docs.main(["--check"])
    assert code == 0, capsys.readouterr().out


def test_the_check_fails_with_a_diff_where_a_page_differs(docs, capsys, monkeypatch):
    page = ROOT / "schemas" / "texts" / "v1" / "README.md"
    monkeypatch.setattr(docs, "parts", lambda: iter([(page, "fields", "another table")]))
    assert docs.main(["--check"]) == 1
    assert "+another table" in capsys.readouterr().out


def test_a_part_without_marks_is_put_at_the_end_and_writing_twice_changes_nothing(docs):
    once = docs.renew("# tool\n", "help", "text with a \\1 in it")
    assert once == "# tool\n\n<!-- help -->\ntext with a \\1 in it\n<!-- /help -->\n"
    assert docs.renew(once, "help", "text with a \\1 in it") == once


def test_every_field_of_every_schema_stands_in_its_table(docs):
    for path in ROOT.glob("schemas/*/v1/schema.json"):
        page = path.with_name("README.md").read_text("utf-8")
        for field in json.loads(path.read_text("utf-8"))["fields"]:
            assert f"| `{field['name']}` |" in page


def script(name: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {name}"))


@pytest.fixture
def stamped(tmp_path, examples):
    """An Arrow stream of ours with one query that is too long for the scripts."""
    from fletching.io import Reader, Writer
    from fletching.report import Report

    long = {"id": "long", "query": "q" * 300, "pos": ["p"]}
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*examples, long]))
    report = Report("maker", quiet=True)
    rows = Reader(report, [str(source)], "examples")
    with Writer(
        report,
        str(tmp_path / "in.arrows"),
        "examples",
        rows.columns,
        version="1",
        options={},
        sources=[rows],
    ) as out:
        for batch in rows:
            out.write(batch)
    return tmp_path / "in.arrows"


@pytest.mark.parametrize("name", ["short_queries.py", "short_queries_sql.py"])
def test_the_scripts_of_the_readme_work_in_the_middle_of_a_pipe(
    name, stamped, tmp_path, run, examples
):
    from fletching import lineage
    from fletching.io import Reader
    from fletching.report import Report

    (tmp_path / name).write_text(script(name))
    assert run(f"python {name} < in.arrows > out.arrows", cwd=tmp_path).err == ""
    kept = Reader(Report("reader", quiet=True), [str(tmp_path / "out.arrows")], "examples")
    assert kept.read_all().to_pylist() == examples
    assert lineage.tools(kept.lineage_nodes[0]) == ["maker", "unknown program"]


def test_the_verifier_of_the_readme_tells_complete_cut_and_changed_streams_apart(
    stamped, tmp_path, run
):
    (tmp_path / "verify.py").write_text(script("verify.py"))
    whole = stamped.read_bytes()
    assert run("python verify.py in.arrows", cwd=tmp_path).text == "13 rows, complete\n"

    changed = whole.replace(b"The owl hunts", b"The cat hunts")
    assert changed != whole
    (tmp_path / "in.arrows").write_bytes(changed)
    assert (
        run("python verify.py in.arrows", cwd=tmp_path).err == "rows or bytes changed on the way\n"
    )

    trailer = whole.rindex(b"\xff\xff\xff\xff", 0, len(whole) - 8)
    (tmp_path / "in.arrows").write_bytes(whole[:trailer])
    assert run("python verify.py in.arrows", cwd=tmp_path).err == "cut after 13 rows\n"
