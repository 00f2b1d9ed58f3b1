"""The network: loading, LoRA, pooling, the last modules, weight interpolation."""
