"""synthgen in layers; a module imports only from layers below its own:

cli               the command line run               one run from options to output files;
run_summary, dry_run output            from responses to batches of rows; request_pool,
diversity jobs              one module a job: its requests, and the rows that its responses give
settings          the server, sampling and languages that the options name request_plan
requests as data, fixed by input, options and seed; columns text_validation   is a text fit for
training?; language_check prompts           prompt templates, attributes to sample, languages,
prices llm               client, endpoint, rate limiter, budget, journal, batch API; knows
nothing of rows options           the options of the command line
"""
