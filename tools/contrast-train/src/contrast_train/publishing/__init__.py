"""What is written beside the weights: model card, measures, lineage and training index."""
