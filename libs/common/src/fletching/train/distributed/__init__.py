"""Several processes: process group, FSDP, DeepSpeed."""
