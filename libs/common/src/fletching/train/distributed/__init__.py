"""Several processes of one run, as torchrun starts them.

process_group     rank and world size, barriers, output of the first process
meeting           how the processes find each other
heartbeats        signs of life between machines
fsdp              weights sharded by FSDP2, and whole states of them (needs torch)
deepspeed_engine  the same by DeepSpeed's ZeRO (needs deepspeed)
deepspeed_config  what --deepspeed asks for, compared with our own options
"""
