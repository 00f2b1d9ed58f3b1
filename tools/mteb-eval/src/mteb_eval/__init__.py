"""Compare embedding models on MTEB and on other test data.

Layers, each importing only what is named after it:

    cli
    run                    tasks, models, comparison, output
    evaluation             every model on every task, through mteb
    result_store · prompt_consistency
    encoder                a model as mteb calls it
    report/                the comparison as text and as an HTML page
    scoring/               metrics, results, intervals and tests, contamination, the quality gate
    data/                  test data: examples, BEIR folders, pairs, mteb's own tasks
    options
"""
