"""What the CPU multiplies with, as torch and oneDNN see it."""

from __future__ import annotations

import os

import torch

UNLIMITED = ("", "ALL", "DEFAULT")
WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")


def has_bf16_tiles() -> bool:
    """Are products of bf16 taken in tiles (AMX)? ONEDNN_MAX_CPU_ISA may forbid them."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    is_allowed = limit in UNLIMITED or "AMX" in limit
    return is_allowed and bool(torch.cpu._is_amx_tile_supported())


def has_vnni() -> bool:
    """Are products of int8 added in 32 bits (AVX-512 VNNI)? ONEDNN_MAX_CPU_ISA may forbid it."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return limit not in WITHOUT_VNNI and bool(torch.cpu._is_vnni_supported())


def instruction_set() -> str:
    """Its name, for reports: `AVX512 with AMX`."""
    name = torch.backends.cpu.get_cpu_capability()
    return f"{name} with AMX" if has_bf16_tiles() else f"{name} without AMX"
