"""How the processes of a run meet, agree and miss each other."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fletching.errors import InputError
from fletching.train import agreement
from fletching.train.distributed import heartbeats, meeting, process_group
from fletching.train.distributed.heartbeats import Heartbeats


@pytest.fixture
def store() -> Any:
    from torch.distributed import HashStore

    store = HashStore()
    store.set_timeout(timedelta(seconds=20))
    return store


def meet_all(store: Any, ranks: range) -> dict[int, Any]:
    words: dict[int, Any] = {}

    def meet(rank: int) -> None:
        try:
            words[rank] = meeting.meet(store, rank, 4)
        except InputError as error:
            words[rank] = error

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return words


@pytest.mark.slow
def test_processes_that_start_again_take_nothing_of_the_earlier_start(store: Any) -> None:
    store.set("hello/3", "a process that was killed before it was answered")
    words = [meet_all(store, range(4)) for _ in range(3)]
    assert [len(set(each.values())) for each in words] == [1, 1, 1]
    assert len({each[0] for each in words}) == 3


@pytest.mark.slow
def test_processes_that_do_not_come_are_named(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PATIENCE", timedelta(seconds=0.2))
    alone = meet_all(store, range(2))[0]
    assert "of 4 processes, 2, 3 were not there" in alone.what
    store.set_timeout(timedelta(seconds=0.2))
    assert "process 0 was not there" in meet_all(store, range(1, 2))[1].what


def test_a_silent_machine_is_lost_and_a_slow_one_is_not() -> None:
    run: Any = Counters()
    ours = Heartbeats(run, 0, {2: "slow", 4: "silent"}, on_loss=print, patience=60)
    slow = Heartbeats(run, 2, {0: "ours"}, on_loss=print, patience=60)
    lost = []
    for now in range(0, 200, 10):
        if now % 50 == 0:
            assert slow.beat(now) is None
        lost.append(ours.beat(now))
    assert lost.index("silent") == 7 and "slow" not in lost


def test_the_first_process_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"batch": 5, "lr": 0.1, "seed": None, "teachers": "known to the first alone"}
    other = {"batch": 6, "lr": 0.1, "seed": 1}
    everyone = [("a", first), ("b", first), ("c", other), ("d", other)]
    monkeypatch.setattr(process_group, "all_gather", lambda value: everyone)
    with pytest.raises(InputError) as caught:
        agreement.refuse_differences("options", first, "the fix")
    assert caught.value.what == (
        "process 2 on c has other options than process 0: batch is 5, there 6; "
        "seed is unset, there 1"
    )
    monkeypatch.setattr(process_group, "all_gather", lambda value: everyone[:2])
    agreement.refuse_differences("options", first, "the fix")


def test_the_number_of_processes_of_the_start_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process_group, "world_size", lambda: 4)
    monkeypatch.setattr(process_group, "broadcast", lambda value: value)
    folder = str(tmp_path)
    assert agreement.first_world_size(folder, resumes=False) == 4
    monkeypatch.setattr(process_group, "world_size", lambda: 2)
    assert agreement.first_world_size(folder, resumes=True) == 4
    assert json.loads((tmp_path / "ranks.json").read_text()) == {"ranks": 4}
    (tmp_path / "ranks.json").write_text("{")
    assert agreement.first_world_size(folder, resumes=True) == 2
    assert agreement.first_world_size(folder, resumes=False) == 2


class Unreachable:
    def set(self, key: str, value: str) -> None:
        raise RuntimeError("the connection is gone")


@pytest.mark.parametrize(("stays", "lost"), [(True, "silent"), (False, "serves the rendezvous")])
def test_a_loss_is_told_while_the_process_waits(
    stays: bool, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "EVERY_SECONDS", 0.02)
    told: list[str] = []
    ended = threading.Event()

    def on_loss(host: str) -> None:
        told.append(host)
        ended.set()

    store: Any = Counters() if stays else Unreachable()
    beats = Heartbeats(store, 0, {1: "silent"}, on_loss=on_loss, patience=0.1)
    beats.start()
    assert ended.wait(20) and lost in told[0]


def test_a_run_that_has_ended_misses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "EVERY_SECONDS", 0.02)
    told: list[str] = []
    beats = Heartbeats(Unreachable(), 0, {1: "b"}, on_loss=told.append)  # type: ignore[arg-type]
    beats.stop()
    beats.start()
    assert not threading.Event().wait(0.2) and told == []


class Counters(dict[str, bytes]):
    """As a store, without torch."""

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)
