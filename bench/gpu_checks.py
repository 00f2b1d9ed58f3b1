"""Checks of bench/gpu.sh that compare a device with the CPU, or one way on it with another.

  python bench/gpu_checks.py memory|replicas|training|fsdp|zero3|qlora|mining FOLDER --device cuda

FOLDER is what bench/gpu_inputs.py wrote. What a check finds is printed; the exit code is 1 where it is not as it should
be, and 77 where the check needs what this machine lacks.

Sharding is checked in a group of one process, because nccl takes no two on one GPU: every weight goes through FSDP2's or
DeepSpeed's gathering and back. The command refuses such a group, so the run is built from its parts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where a file would stand for the tool of its name

SKIPPED = 77
STEPS = 4
BATCH = 16
LENGTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("check", choices=list(CHECKS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    CHECKS[args.check](args.folder, args.device)
    sys.stdout.flush()
    if args.check in SHARDINGS:
        os._exit(0)  # gloo's destructor may wait for ever


def require(is_true: bool, what: str) -> None:
    if not is_true:
        sys.exit(what)


def skip(why: str) -> None:
    print(why)
    sys.stdout.flush()
    os._exit(SKIPPED)


# --- encoding ------------------------------------------------------------------------------------


def texts_of(folder: Path) -> list[str]:
    lines = (folder / "texts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def encoder_on(folder: Path, device: str, **more: Any) -> Any:
    from dataclasses import dataclass

    from fletching.encode import Encoder
    from fletching.options import EncodingOptions
    from fletching.report import Report

    @dataclass(frozen=True, kw_only=True)
    class Options(EncodingOptions):
        output: str | None = None

    options = Options(model=str(folder / "encoder"), device=device, **more)
    return Encoder(options, Report("bench", quiet=True))


def lowest_cosine(left: Any, right: Any) -> float:
    return float((left * right).sum(1).min())


def memory(folder: Path, device: str) -> None:
    """A GPU that runs out of memory halves its batches; the vectors are those of small batches."""
    if device == "cpu":
        skip("needs CUDA: memory of a CPU has no such limit")
    import torch

    texts = texts_of(folder)[:2000]
    small = encoder_on(folder, device, batch_tokens=2048).encode(texts, "document")
    torch.cuda.empty_cache()
    encoder = encoder_on(folder, device, batch_tokens=1 << 22)
    total = torch.cuda.get_device_properties(device).total_memory
    limit = torch.cuda.memory_allocated() + (1 << 30)
    torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0))
    vectors = encoder.encode(texts, "document")
    budget = encoder.forward_pass.batch_tokens
    cosine = lowest_cosine(small, vectors)
    print(f"batches of 4,194,304 tokens were halved down to {budget:,}; lowest cosine {cosine:.6f}")
    require(budget < 1 << 22, "no batch was too large: the branch was not reached")
    require(cosine > 0.999, "other vectors")


def replicas(folder: Path, device: str) -> None:
    """Two copies of the model, each in a thread, both on the one device."""
    texts = texts_of(folder)[:500]
    twice = ",".join([device if device == "cpu" else "cuda:0"] * 2)
    one = encoder_on(folder, device, dtype="float32").encode(texts, "document")
    two = encoder_on(folder, twice, dtype="float32").encode(texts, "document")
    cosine = lowest_cosine(one, two)
    print(f"--device {twice}: lowest cosine to one copy {cosine:.7f}")
    require(cosine > 0.99999, "other vectors")


# --- training ------------------------------------------------------------------------------------


def training_words(folder: Path, output: str, device: str, *more: object) -> list[str]:
    words = [folder / "pairs.jsonl", "--model", folder / "encoder", "-o", folder / output]
    words += ["--device", device, "--steps", STEPS, "--batch", BATCH, "--quiet"]
    words += ["--query-length", LENGTH, "--doc-length", LENGTH, "--batch-tokens", 1024]
    return [str(word) for word in [*words, *more]]


def trained(folder: Path, output: str, device: str, *more: object) -> dict[str, Any]:
    """The weights after a few steps of the command."""
    from safetensors.torch import load_file

    from contrast_train import cli

    code = cli.main(training_words(folder, output, device, *more))
    require(code == 0, f"contrast-train failed with exit code {code}")
    return load_file(folder / output / "model.safetensors")


def largest_difference(left: dict[str, Any], right: dict[str, Any]) -> float:
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def training(folder: Path, device: str) -> None:
    """The weights of the CPU; and of kept and recomputed activations under dropout, in bfloat16."""
    same = ("--dropout", 0, "--dtype", "float32", "--activations", 0)
    here, there = trained(folder, "here", device, *same), trained(folder, "there", "cpu", *same)
    apart = largest_difference(here, there)
    print(f"{STEPS} steps in float32 without dropout: weights differ from the CPU's by {apart:.1e}")
    noisy = ("--dropout", 0.1, "--dtype", "bfloat16", "--activations")
    kept = trained(folder, "kept", device, *noisy, 8)
    again = trained(folder, "again", device, *noisy, 0)
    by_keeping = largest_difference(kept, again)
    print(f"… in bfloat16 with dropout: kept and recomputed activations {by_keeping:.1e} apart")
    # A step moves a weight by about the rate, 1e-4.
    require(apart < 1e-4, "other weights than on the CPU")
    require(by_keeping < 1e-4, "recomputed activations draw other dropout")


def qlora(folder: Path, device: str) -> None:
    """LoRA over a decoder in 4 bits beside LoRA over float32: memory and seconds of a run."""
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        skip("needs bitsandbytes: pip install 'fletching-contrast-train[4bit]'")
    print("| weights | peak GB of the GPU | s of the run |")
    print("|---|---|---|")
    for name, more in (("float32", []), ("4 bits", ["--lora-4bit"])):
        gigabytes, seconds = measured(
            lambda more=more, name=name: lora_run(folder, device, name, more)
        )
        print(f"| {name} | {gigabytes:.2f} | {seconds:.1f} |")


def lora_run(folder: Path, device: str, name: str, more: list[str]) -> None:
    from contrast_train import cli

    words = training_words(folder, f"lora {name}", device, "--lora", *more)
    words[words.index("--model") + 1] = str(folder / "decoder")
    require(cli.main(words) == 0, f"contrast-train --lora {' '.join(more)} failed")


def measured(run: Callable[[], None]) -> tuple[float, float]:
    """(peak GB of the GPU, 0 on a CPU; wall seconds)."""
    import torch

    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return (torch.cuda.max_memory_allocated() / 1e9 if has_gpu else 0.0), seconds


def sharded(kind: str) -> Callable[[Path, str], None]:
    """A run whose weights are sharded, in a group of one, beside a plain one."""

    def check(folder: Path, device: str) -> None:
        from safetensors.torch import load_file

        if kind == "zero3" and device == "cpu":
            skip("needs CUDA: DeepSpeed's ZeRO-3 alone in its group asks for streams of a GPU")
        more = ("--dropout", 0, "--dtype", "float32")
        gigabytes, seconds = measured(lambda: run_sharded(folder, device, kind, more))
        plain = folder / f"plain for {kind}"
        words = ["contrast-train", *training_words(folder, plain.name, device, *more)]
        alone = {name: value for name, value in os.environ.items() if name not in GROUP | ADDRESS}
        subprocess.run(words, check=True, env=alone)
        apart = largest_difference(
            load_file(folder / kind / "model.safetensors"), load_file(plain / "model.safetensors")
        )
        of_gpu = f", {gigabytes:.2f} GB of the GPU" if gigabytes else ""
        print(f"{kind}: {seconds:.1f} s{of_gpu}; {apart:.1e} from the weights of a plain run")
        require(apart < 1e-5, "other weights than without sharding")

    return check


# What torchrun would set.
GROUP = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}


def run_sharded(folder: Path, device: str, kind: str, more: tuple[object, ...]) -> None:
    import dataclasses

    from contrast_train import cli
    from contrast_train.run import ContrastRun
    from fletching.parsing import parse
    from fletching.report import Report
    from fletching.train.distributed import process_group
    from fletching.train.run_dir import RunDir

    os.environ.update(GROUP | ADDRESS)
    process_group._init_process_group()
    options = parse(cli.Options, training_words(folder, kind, device, *more))
    sharding = {"fsdp": True} if kind == "fsdp" else {"deepspeed": zero_config(folder)}
    options = dataclasses.replace(options, **sharding)
    run_dir = RunDir(options.output)
    run = ContrastRun(options, Report("bench", quiet=True), cli.TOOL, run_path=run_dir.path)
    run.train(run_dir, run_dir.resume_or_start(run.manifest))


def zero_config(folder: Path) -> str:
    """ZeRO-3 that leaves no small weight whole."""
    path = folder / "zero3.json"
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
    path.write_text(json.dumps({"zero_optimization": zero}))
    return str(path)


# --- mining --------------------------------------------------------------------------------------


def mining(folder: Path, device: str) -> None:
    """hnmine with a model, a reranker and --device, beside the CPU: are its negatives the same?"""
    mined = [mined_negatives(folder, name) for name in dict.fromkeys((device, "cpu"))]
    here, there = mined[0], mined[-1]
    pairs = [(set(here[row]), set(there[row])) for row in there]
    share = sum(len(left & right) for left, right in pairs) / sum(len(right) for _, right in pairs)
    print(f"{share:.1%} of the negatives of {len(pairs):,} rows are those of the CPU")
    require(share > 0.97, "other negatives than on the CPU")


def mined_negatives(folder: Path, device: str) -> dict[str, list[str]]:
    out = folder / f"mined-{device}.jsonl"
    words = ["hnmine", folder / "pairs.jsonl", "--corpus", folder / "texts.jsonl", "-o", out]
    words += ["--model", folder / "encoder", "--reranker", folder / "cross-encoder"]
    words += ["--dtype", "float32", "--range", "2-12", "--negatives", 3, "--sample", "top"]
    # To random weights all texts are alike: the guards would leave nothing.
    words += ["--max-ratio", 0, "--near-copy", 1.01, "--reranker-margin=-100"]
    words += ["--limit", 200, "--device", device, "--quiet"]
    subprocess.run([str(word) for word in words], check=True)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return {row["id"]: row["neg"] for row in rows}


SHARDINGS = ("fsdp", "zero3")
CHECKS: dict[str, Callable[[Path, str], None]] = {
    "memory": memory,
    "replicas": replicas,
    "training": training,
    "qlora": qlora,
    "mining": mining,
} | {kind: sharded(kind) for kind in SHARDINGS}

if __name__ == "__main__":
    main()
