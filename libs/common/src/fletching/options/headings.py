"""Headings of --help under which tools list their options."""

from __future__ import annotations

IO = "input and output"
MODEL = "model and encoding"
TRAINING = "training"
LORA = "LoRA"
LOSS = "loss"
RUN = "running"
