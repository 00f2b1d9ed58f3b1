"""What the tools that train share: one run from the command line to the folder that is published.

command   what each of them refuses, and a run in one process or in several
ranks     the processes of a run under torchrun: who is first, what all wait for, who speaks
folder    `DIR.run`: who works there, on what, whole checkpoints, and the one rename that publishes
order     global batches as a function of (rows, batch, seed, epoch)
schedule  the learning rate of each step
trainer   transformers' Trainer led by a plan (needs transformers)
sharding  weights shared out among processes, FSDP2 (needs torch)
zero      the same by DeepSpeed's ZeRO (needs deepspeed); zero_settings reads what --deepspeed asks for
hardware  settings of this machine (needs torch)
watch     the progress line and the measures, line by line
card      the model card
outcome   measures, lineage and card into the folder that is published
"""
