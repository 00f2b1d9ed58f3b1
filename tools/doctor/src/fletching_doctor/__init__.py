"""What a machine has for Fletching, what is slow on it, and why.

probes    what is there: packages, processor, memory and disk, torch, hub
findings  what of it costs time or breaks, each with its fix
text      both for people
"""
