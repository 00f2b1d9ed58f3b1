"""contrast-train: contrastive fine-tuning whose gradient is right at any size."""
