"""contrast-train: contrastive fine-tuning of text encoders, exact at any batch size.

Each layer imports those below it:

cli          the command: option_checks, and the run in one process or several
api          the parts for other people's trainers
run          one run, from options to model folder
publishing/  model folder, model card, index of the training texts
training/    GradCache, objective, trainer, evaluation, dry run
model/       backbone, LoRA, pooling, head, interpolation of weights
data/        rows on disk, tasks, batches, shares of ranks, collator, guide embeddings
losses/      the losses, each with its formula and what it needs of the rows
options      the command line
"""
