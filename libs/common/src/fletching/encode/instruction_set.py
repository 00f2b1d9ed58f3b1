"""What the CPU multiplies with, as torch and oneDNN see it."""

from __future__ import annotations

import os

import torch

UNLIMITED = ("", "ALL", "DEFAULT")
# Limits of ONEDNN_MAX_CPU_ISA that leave products of bf16: AVX512_CORE_BF16, AVX512_CORE_FP16, …
WITH_BF16 = ("BF16", "FP16", "AVX10", "AMX")
WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")


def has_bf16_tiles() -> bool:
    """Are products of bf16 taken in tiles (AMX)? ONEDNN_MAX_CPU_ISA may forbid them."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    is_allowed = limit in UNLIMITED or "AMX" in limit
    return is_allowed and bool(torch.cpu._is_amx_tile_supported())


def multiplies_bf16() -> bool:
    """Are pairs of bf16 multiplied and added at once (AVX-512 BF16), or tiles of them (AMX)?

    Twice as fast as float32, or more. ONEDNN_MAX_CPU_ISA may forbid both.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    is_allowed = limit in UNLIMITED or any(name in limit for name in WITH_BF16)
    return has_bf16_tiles() or (is_allowed and bool(torch.cpu._is_avx512_bf16_supported()))


def has_vnni() -> bool:
    """Are products of int8 added in 32 bits (AVX-512 VNNI)? ONEDNN_MAX_CPU_ISA may forbid it."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return limit not in WITHOUT_VNNI and bool(torch.cpu._is_vnni_supported())


def instruction_set() -> str:
    """Its name, for reports: `AVX512 with AMX`, `AVX512 with BF16, without AMX`."""
    name = torch.backends.cpu.get_cpu_capability()
    if has_bf16_tiles():
        return f"{name} with AMX"
    return f"{name} with BF16, without AMX" if multiplies_bf16() else f"{name} without AMX"
