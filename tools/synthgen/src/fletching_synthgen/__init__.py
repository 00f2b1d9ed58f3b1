"""synthgen: training data from an LLM.

In layers; a module imports only from those below its own:

cli                             the command line
run                             one run from options to output files
run_summary  dry_run            what a run tells at its end, or before it starts
output                          from responses to batches of rows
request_pool  diversity         requests in flight; how diverse the rows of a task are
jobs                            one module a job: its requests, and the rows of its responses
settings                        the server, sampling and languages that the options name
request_plan  columns           requests as data, fixed by input, options and seed
text_validation  language_check is a text fit for training?
prompts                         prompt templates, attributes to sample, languages, prices
llm                             client, endpoint, rate limiter, budget, journal, batch API
options                         the options of the command line
"""
