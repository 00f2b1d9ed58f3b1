"""distill: a small fast text-embedding model from any teacher.

Each layer imports only what is below it:

cli                                 the command line
run                                 one run, from options to the published folder
trainer  publishing  model_card     training along the order of the texts, what is published
objective > student, static_embeddings    the student and the loss of a global batch of it
losses > ranking                    losses between vectors, without a model
teachers > model_teacher, vector_files, embedding_server > teacher    where targets come from
targets > teacher                   the teachers' vectors of all texts, in one file
text_dataset                        the distinct texts, on disk
resolved_options                    values that follow from the options
options                             the options of the command line
"""
