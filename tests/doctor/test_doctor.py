"""What is seen of a machine, and which finding each state of it gives."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fletching_doctor import cli, findings, text
from fletching_doctor.examination import examine
from fletching_doctor.probes.compute import Compute
from fletching_doctor.probes.hub import Hub, probe_hub
from fletching_doctor.probes.machine import Disk, Machine
from fletching_doctor.probes.packages import Packages, _unmet

MACHINE = Machine(
    processor="a processor",
    cores=8,
    usable_cores=8,
    quota=None,
    load=0.5,
    instruction_sets=["AVX2", "AMX"],
    memory=32 * 10**9,
    memory_limit=None,
    memory_available=16 * 10**9,
    disks=[Disk(purpose="temporary files", folder="/tmp", free=50 * 10**9)],
    has_nvidia_device=False,
    variables={},
)
COMPUTE = Compute(
    torch="2.13.0",
    build="CPU",
    threads=8,
    kernels="AVX512",
    devices={"cpu": ""},
    gflops={"float32": 100.0, "bfloat16": 900.0},
    seconds_to_import=1.0,
)
WITH_GPU = {"devices": {"cuda:0": "a GPU", "cpu": ""}, "build": "CUDA 13"}


def told(machine: dict, compute: dict) -> list[tuple[str, str]]:
    seen = dataclasses.replace(MACHINE, **machine)
    found = [
        *findings.of_machine(seen),
        *findings.of_compute(dataclasses.replace(COMPUTE, **compute), seen),
    ]
    return [(each.severity, each.what + " | " + each.fix) for each in found]


@pytest.mark.parametrize(
    ("machine", "compute", "words"),
    [
        ({}, {}, []),
        ({"has_nvidia_device": True}, WITH_GPU, []),
        ({"has_nvidia_device": True}, {}, ["build for CPUs", "TORCH=cuda"]),
        ({"has_nvidia_device": True}, {"build": "CUDA 13"}, ["does not reach it", "driver"]),
        ({}, {"build": "CUDA 13"}, ["gigabytes", "TORCH=cpu"]),
        ({"quota": 2.0, "usable_cores": 2}, {}, ["has 2 processors", "OMP_NUM_THREADS=2"]),
        ({"quota": 1.1, "usable_cores": 2}, {"threads": 2}, []),
        ({}, {"threads": 1}, ["1 of 8 processors", "export OMP_NUM_THREADS=8"]),
        ({"variables": {"OMP_NUM_THREADS": "6"}}, {"threads": 6}, ["6 of 8", "unset OMP"]),
        ({}, {"gflops": {"float32": 100.0, "bfloat16": 20.0}}, ["no units", "--dtype"]),
        ({"instruction_sets": []}, {}, ["no AVX2"]),
        ({"instruction_sets": ["NEON"]}, {}, []),
        ({"variables": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}, {}, ["unset ONEDNN_MAX_CPU_ISA"]),
        ({"load": 20.0}, {}, ["load is 20.0 on 8"]),
        ({"memory_available": 10**9}, {}, ["1.0 GB of memory"]),
        (
            {"disks": [Disk(purpose="temporary files", folder="/tmp", free=10**9)]},
            {},
            ["/tmp (temporary files) has 1.0 GB free", "export TMPDIR="],
        ),
    ],
)
def test_each_state_gives_its_finding_with_the_fix(machine, compute, words):
    lines = told(machine, compute)
    assert len(lines) == (1 if words else 0), lines
    for word in words:
        assert word in lines[0][1]


def test_a_requirement_that_is_not_met_is_broken():
    [line] = _unmet("fletching-doctor", {"packaging": "26", "fletching": "0.1.0", "psutil": "5.0"})
    assert line == "fletching-doctor needs psutil>=6, and 5.0 is installed"
    packages = Packages(
        python="3",
        executable="python",
        system="Linux",
        tools={},
        libraries={"torch": "2"},
        extras={},
        missing_extras={},
        unmet=[line],
    )
    [finding] = findings.of_packages(packages)
    assert finding.severity == "broken" and finding.fix


@pytest.fixture
def hub_that_answers():
    """Its address; it answers 404, as a hub that is there may."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_hub_is_asked_unless_a_flag_forbids_it(monkeypatch, hub_that_answers):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub_that_answers)
    assert probe_hub(tries=True).answer == "reached"
    assert probe_hub(tries=False).answer == "not tried"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    unreached = probe_hub(tries=True)
    assert [each.severity for each in findings.of_hub(unreached)] == ["note"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = probe_hub(tries=True)
    assert offline.answer == "not tried"
    assert "HF_HUB_OFFLINE set" in next(findings.of_hub(offline)).what
    assert not list(findings.of_hub(Hub(**vars(offline) | {"offline_flags": []})))


def test_the_program_runs_without_arguments_and_prints_json(invoke, tmp_path):
    quick = ["--no-hub", "--no-measure"]
    shown = invoke(cli.main, *quick)
    assert shown.rc == 0 and "processor" in shown.text and "csv2pairs" in shown.text
    written = tmp_path / "doctor.json"
    printed = invoke(cli.main, *quick, "--json", "-o", written)
    content = json.loads(printed.text)
    assert content == json.loads(written.read_text("utf-8"))
    assert content["packages"]["tools"]["fletching"] and content["compute"] is None
    assert content["machine"]["cores"] == os.cpu_count()
    assert invoke(cli.main, "-o", tmp_path / "no" / "x.json").rc == 2


@pytest.mark.slow
def test_torch_is_asked_for_devices_threads_and_speeds():
    examination = examine(tries_hub=False, imports_torch=True)
    assert examination.compute is not None and examination.compute.threads >= 1
    assert min(examination.compute.gflops.values()) > 0
    shown = text.page(examination)
    assert "GFLOP/s" in shown and "devices" in shown
