"""fletching-export: a model as one ONNX or OpenVINO graph, and folders or rows on the hub.

Layers, each of which imports those below it alone:

cli               the command and its checks
export  push      one run: the exported folder; what goes to the hub
export_card  dataset_card   the README of each
parity            how near an export is to torch, and how fast
retrieval  speed  nDCG@10 with its interval; milliseconds and texts a second
runtimes          ONNX Runtime and OpenVINO: how each writes and runs a graph
graph             the pipeline of a model as one graph
tokenization      tokenizer.json that truncates and pads by itself
sample_texts      the texts that are compared where the user names none
options           the command line
"""
