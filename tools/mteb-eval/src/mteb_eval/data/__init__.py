"""Test data and what is known of them: tasks, collections, sentence pairs, qrels.

Order, lowest first: names, ranking, collection, sentence_pairs · examples_collection,
candidate_blocks, beir_folder · local_tasks, known_training_sets · task_registry · task_list.
"""
