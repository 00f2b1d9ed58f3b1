"""What the tools that train share: the folder of a run and its checkpoints, the schedule, the log of measures.

folder    `DIR.run`: who works there, on what, whole checkpoints, and the one rename that publishes
schedule  the learning rate of each step
ranks     the processes of a run under torchrun: who is first, what all wait for, who speaks
watch     the progress line and the measures, line by line
hardware  settings of this machine (needs torch)
"""
