"""Masked next-token prediction: any decoder language model becomes a bidirectional text encoder.

Each layer imports only what is below it:

cli                                      the command line
run                                      one run, from options to the published folder
trainer  held_out  model_card            training, evaluation on held-out texts, the card
objective                                batches of token blocks and their loss
encoder > decoder > lora, attention      the model: loaded, made bidirectional, saved
block_plan  token_store  masking  documents    texts as tokens, blocks and masks
options                                  the options of the command line
"""
