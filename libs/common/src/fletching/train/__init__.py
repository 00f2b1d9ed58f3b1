"""What the tools that train share, from the command line to the folder that is published.

launch              checks that each of them makes, and a run in one process or in several
distributed/        the processes of a run under torchrun, FSDP2, DeepSpeed
agreement           what all processes of a run must have: folder, options, models
run_dir             `DIR.run`: lock, manifest, whole checkpoints, the rename that publishes
batch_order         global batches as a function of (rows, batch, seed, epoch)
schedule            the learning rate of each step
trainer             transformers' Trainer led by a plan (needs transformers)
hardware            settings of this machine (needs torch)
metrics_log         the progress line, and the measures line by line
experiment_loggers  --report-to (needs transformers)
model_card          the model card (needs huggingface_hub), of card_sections and card_lineage
base_card           what the card of a base model says: name, licence, languages
markdown            texts of data as Markdown
publish             measures, lineage and card into the folder that is published
"""
