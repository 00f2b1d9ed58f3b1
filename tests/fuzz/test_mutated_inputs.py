"""A few hundred mutated inputs of every reader, seeded, and the kept ones; `make fuzz` tries 20,000."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz_readers import READERS
from fuzz_trials import DEFECT, REFUSED, FuzzCase, Fuzzer, kept, plan

pytestmark = pytest.mark.slow  # as a whole: hundreds of forked commands

SEED = 11
LIGHT = 100
OTHERS = ("vector cache", "--vectors", "answers to encoders")
KEPT = [case for case in kept(READERS) if READERS[case.reader].is_quick]


@pytest.fixture(scope="module")
def quick() -> Iterator[Fuzzer]:
    """For readers without torch."""
    with Fuzzer(is_quick=True) as fuzzer:
        yield fuzzer


@pytest.mark.parametrize("case", KEPT, ids=lambda case: f"{case.reader}: {case.seed}")
def test_an_input_that_once_broke_a_reader_is_read_or_refused(
    case: FuzzCase, quick: Fuzzer
) -> None:
    done = quick.run(case)
    assert done.verdict != DEFECT, done.detail
    if case.seed.endswith("one blank"):
        assert done.verdict == REFUSED


def test_mutated_inputs_are_refused_by_name_or_read_as_they_are_written(quick: Fuzzer) -> None:
    light = {name: reader for name, reader in READERS.items() if reader.is_quick}
    done = [quick.run(case) for case in plan(light, LIGHT, SEED)]
    with Fuzzer() as fuzzer:
        others = {name: READERS[name] for name in OTHERS}
        done += [fuzzer.run(case) for case in plan(others, 12, SEED)]
    assert [(case.reader, case.seed, case.detail) for case in done if case.verdict == DEFECT] == []
    # Without these, a suite that mutates nothing, or reads nothing, would pass.
    verdicts = [case.verdict for case in done]
    assert verdicts.count(REFUSED) > len(done) / 3
    assert sum(verdict != REFUSED for verdict in verdicts) > len(done) / 10


def test_the_harness_sees_crashes_hangs_lies_and_memory(quick: Fuzzer) -> None:
    told = {
        name: quick.run(FuzzCase(f"broken: {name}", "0")).detail
        for name in ("crash", "hang", "lie", "memory", "traceback")
    }
    assert "SIGSEGV" in told["crash"]
    assert "SIGXCPU" in told["hang"] or "SIGKILL" in told["hang"]
    assert "other than it was" in told["lie"]
    assert "MB" in told["memory"]
    assert "ZeroDivisionError" in told["traceback"]


def test_a_case_keeps_its_input_where_it_is_told(quick: Fuzzer, tmp_path: Path) -> None:
    done = quick.run(FuzzCase("JSON lines", "0"), str(tmp_path / "kept"))
    assert (tmp_path / "kept" / "work" / done.target).is_file()
    shutil.rmtree(tmp_path / "kept")
