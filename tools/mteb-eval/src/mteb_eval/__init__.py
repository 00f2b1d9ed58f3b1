"""Compare embedding models on MTEB and on other test data.

Layers, each importing only what is named after it:

    cli
    run                    tasks, models, comparison, output
    training_overlap       test texts that a model may have seen
    evaluation             every model on every task, through mteb
    neighbours             the guard: what is near by the baseline
    result_store · prompt_consistency · model_variants
    fusion                 a model and BM25 as mteb calls them
    encoder · bm25         a model, or BM25, as mteb calls it
    system                 what all of them have in common
    report/                the comparison as text and as an HTML page
    scoring/               metrics, results, intervals and tests, contamination, the quality gate
    data/                  test data: examples, BEIR folders, pairs, mteb's own tasks
    options
"""
