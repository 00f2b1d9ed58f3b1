"""What is redone: exactly what an argument changes, and after a kill at any step what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tune_fakes import Killed, model_folder, write_table

pytestmark = pytest.mark.slow  # as a whole: what one runs while typing ends in a minute

WITH_TIMES = {"verdict.json", "report.html"}
SPLIT = ["pairs-all", "split", "documents-pairs", "documents", "probe"]
WHOLE = [*SPLIT, "filter", "mine", "hybrid"]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_command_redoes_nothing_and_says_the_same(faq, tune):
    first = tune()
    assert first.executed[: len(WHOLE)] == WHOLE
    assert first.verdict["outcome"] == "WIN"
    left = files(Path("tuned"))
    again = tune()
    assert again.executed == []
    assert again.out == first.out
    assert files(Path("tuned")) == left


@pytest.mark.parametrize(
    ("change", "redone", "kept"),
    [
        pytest.param({"query": "answer", "pos": ("question",)}, WHOLE, [], id="swapped columns"),
        pytest.param({"pos": ("détail",)}, WHOLE, [], id="another answer"),
        pytest.param({"category": "topic"}, ["pairs-all", "split"], [], id="category"),
        pytest.param({"template": "{topic}: {answer}"}, WHOLE, [], id="template"),
        pytest.param({"encoding": "utf-8-sig"}, WHOLE, [], id="encoding"),
        pytest.param({"limit": 200}, WHOLE, [], id="limit"),
        pytest.param({"seed": 7}, ["pairs-all", "split", "probe", "dev"], [], id="seed"),
        pytest.param({"query_length": 32}, ["probe", "filter", "mine", "dev", "test"], ["pairs-all", "split", "documents"], id="length"),
        pytest.param({"budget": "26s"}, ["dev"], ["pairs-all", "split", "documents", "probe"], id="budget"),
    ],
)  # fmt: skip
def test_an_argument_redoes_what_it_changes(change, redone, kept, finished, tune):
    executed = tune(**change).executed
    assert set(redone) <= set(executed)
    assert not set(kept) & set(executed)


def test_another_file_of_the_same_name_redoes_everything(finished, tune):
    write_table(finished, rows=320)
    assert set(WHOLE) <= set(tune().executed)


def test_a_file_of_the_same_content_redoes_nothing(finished, tune):
    write_table(finished)
    assert tune().executed == []


def test_another_base_in_the_same_folder_redoes_what_uses_it(finished, tune):
    shutil.rmtree("base")
    model_folder("base", 0.001)
    executed = tune().executed
    assert {"probe", "filter", "mine", "dev", "test"} <= set(executed)
    assert not {"pairs-all", "split", "documents"} & set(executed)


def test_an_output_that_was_damaged_is_made_again(finished, tune):
    Path("tuned.tune/documents.parquet").write_bytes(b"damaged")
    assert "documents" in tune().executed


def test_a_stage_can_be_redone_and_can_be_the_last(faq, tune):
    done = tune(to="plan")
    assert done.executed == SPLIT
    assert not Path("tuned").exists()
    assert not {"pairs-all", "probe"} & set(tune().executed)
    samples = ["sample-rows-anchored-25", "sample-rows-anchored-50"]  # of the learning curve
    assert tune(from_="verdict").executed == ["test", *samples]


def test_a_run_that_is_killed_at_any_step_goes_on_to_the_same_result(finished, tune, programs):
    result = files(Path("tuned"))
    stamps = sorted(path.stem for path in Path("tuned.tune/stamps").glob("*.json"))
    one_of_each_kind = {name.split("-")[0]: name for name in stamps}
    for name in one_of_each_kind.values():
        shutil.rmtree("tuned")
        stamp = Path("tuned.tune/stamps") / f"{name}.json"
        stamp.unlink()
        programs.killed_at = name
        with pytest.raises(Killed):
            tune()
        programs.killed_at = None
        executed = tune().executed
        assert executed[0] == name
        again = files(Path("tuned"))
        assert again.keys() == result.keys()
        assert all(again[path] == result[path] for path in result if path not in WITH_TIMES)


def test_the_commands_of_a_finished_run_are_those_that_it_left_as_a_script(finished, tune):
    shutil.rmtree("tuned.tune/logs")
    script = Path("tuned/commands.sh").read_text().splitlines()
    shutil.rmtree("tuned")
    printed = tune(print_commands=True)
    assert printed.executed == []
    assert printed.out.splitlines() == script[3:]
    assert not Path("tuned").exists()


def test_a_result_of_another_program_is_never_replaced(faq, tune):
    from fletching.errors import InputError

    Path("tuned").mkdir()
    Path("tuned/thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds no verdict"):
        tune()
    assert Path("tuned/thesis.tex").exists()
