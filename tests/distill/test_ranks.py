"""Several processes: the gradient, the model and the log of one process."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from several import plain
from suite import call_ranks, start_server
from torch import nn

from fletching_distill.losses import DistillLoss
from fletching_distill.objective import DistillObjective

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

ALL = {"cosine": 10.0, "similarity": 200.0, "ranking": 20.0, "mse": 1.0, "kl": 1.0}
ALONE = {"OMP_NUM_THREADS": "1"}  # as torchrun sets it


class Case(NamedTuple):
    """batch_tokens: of a micro-batch. keep: tokens whose activations are kept."""

    texts: int
    batch_tokens: int
    keep: int
    dims: tuple[int, ...] = ()


# The last two leave the second of two ranks without a micro-batch.
CASES = [
    Case(9, 24, 0),
    Case(9, 24, 40, (4, 12)),
    Case(10, 24, 10**6),
    Case(5, 10**6, 10**6),
    Case(1, 16, 0),
]


class ToyEncoder(nn.Module):
    """Token embeddings through a layer, averaged, with the interface of a SentenceTransformer.

    Its head is in no loss.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 12)
        self.layer = nn.Linear(12, 12)
        self.head = nn.Linear(12, 12)

    def forward(self, features: dict[str, Any]) -> dict[str, torch.Tensor]:
        mask = features["attention_mask"][..., None].float()
        mixed = self.tokens(features["input_ids"])
        mixed = (mixed + torch.tanh(self.layer(mixed))) * mask
        return {"sentence_embedding": mixed.sum(1) / mask.sum(1)}


def objective(case: Case) -> DistillObjective:
    torch.manual_seed(0)
    student = SimpleNamespace(
        model=ToyEncoder(),
        is_static=False,
        autocast=None,
        tokenizer=SimpleNamespace(padding_side="right", pad_token_id=0),
    )
    loss = DistillLoss(ALL, case.dims)
    return DistillObjective(student, loss, batch_tokens=case.batch_tokens, keep_tokens=case.keep)  # type: ignore[arg-type]


def gradient(whole: DistillObjective, wrapped: nn.Module, case: Case) -> torch.Tensor:
    noise = torch.Generator().manual_seed(case.texts)
    lengths = torch.randint(1, 20, (case.texts,), generator=noise)
    tokens = torch.randint(1, 50, (int(lengths.sum()),), generator=noise)
    targets = nn.functional.normalize(torch.randn(case.texts, 12, generator=noise), dim=1)
    value = wrapped(tokens, lengths, targets)
    value.backward()
    parts = [torch.zeros(p.shape) if p.grad is None else p.grad for p in whole.parameters()]
    return torch.cat([value.detach()[None], *(part.flatten() for part in parts)])


def one_rank(rank: int, folder: str) -> None:
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    for number, case in enumerate(CASES):
        whole = objective(case)
        wrapped = nn.parallel.DistributedDataParallel(whole, find_unused_parameters=True)
        torch.save(gradient(whole, wrapped, case), f"{folder}/{number}-{rank}.pt")
    torch.distributed.barrier()
    os._exit(
        0
    )  # gloo's destructor may wait for ever on a thread that waits for Python's lock (torch 2.13)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    start_server()
    torch.multiprocessing.start_processes(
        one_rank, (str(folder),), nprocs=2, start_method="forkserver"
    )
    return folder


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_have_the_loss_and_the_gradient_of_one(gradients: Path, number: int) -> None:
    case = CASES[number]
    whole = objective(case._replace(batch_tokens=10**6, keep=10**6))
    expected = gradient(whole, whole, case)
    assert expected[1:].norm() > 0.1
    for rank in (0, 1):
        got = torch.load(gradients / f"{number}-{rank}.pt", weights_only=True)
        assert abs(got[0] - expected[0]) <= 1e-5 * expected[0]
        assert (got[1:] - expected[1:]).norm() <= 1e-5 * expected[1:].norm()


def logged(folder: Path, name: str) -> list[float]:
    return [
        row["value"]
        for row in pq.read_table(folder / "measures.parquet").to_pylist()
        if row["name"] == name
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        ("--student-layers", "1", "--projection", "keep", "--batch-tokens", "48"),
        ("--student", "static"),
    ],
)
def test_processes_train_the_student_of_one(
    run: Any,
    write: Any,
    tmp_path: Path,
    model: str,
    examples: list[dict[str, Any]],
    kind: tuple[str, ...],
) -> None:
    from safetensors.torch import load_file

    rows = write(tmp_path / "rows.parquet", examples)
    program = [rows, "--teacher", model, *kind, "--batch", "7", "--epochs", "2"]
    program += ["--lr", "1e-3", "--dtype", "float32"]
    logs = []
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        str(Path(sys.executable).parent / "distill"),
    ]
    for ranks in (1, 2):
        words = [*program, "-o", str(tmp_path / str(ranks))]
        done = (
            run([*torchrun, *words], env=ALONE)
            if ranks == 2 and "static" in kind
            else call_ranks(ranks, ["distill", *words])
        )
        assert done.rc == 0 and done.out == b"", done.err
        logs.append(plain(done.err, "distill"))
    assert logs[0] == logs[1]
    one, two = (tmp_path / name for name in "12")
    assert np.allclose(logged(one, "grad_norm"), logged(two, "grad_norm"), rtol=1e-4)
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert files == sorted(path.relative_to(two) for path in two.rglob("*.safetensors"))
    for file in files:
        ours, theirs = load_file(one / file), load_file(two / file)
        assert (
            max(float((tensor - theirs[name]).abs().max()) for name, tensor in ours.items()) < 1e-5
        )
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "rows.parquet"}
