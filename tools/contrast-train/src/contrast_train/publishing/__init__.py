"""What stands beside the weights: model card and training index."""
