"""distill: a small fast text-embedding model from any teacher.

Each layer imports only what is below it:

cli                                             the command line
run                                             one run, from options to the published folder
trainer  publishing  model_card                 training, and what is published with the model
objective                                       the loss of a global batch
student                                         the model that is trained
static_embeddings                               the initial weights of a static student
losses > ranking                                losses between vectors, without a model
teachers                                        the teachers that the options name
model_teacher  vector_files                     each kind of teacher
targets                                         the vectors of all teachers, in one file
teacher                                         what a teacher is
text_dataset                                    the distinct texts, on disk
resolved_options                                values that follow from the options
options                                         the options of the command line
"""
