"""blend-models: the weights of several models of one architecture, blended into one.

Layers, each of which imports those below it alone:

cli            the command and its checks
publishing     the folder: weights, settings, card, lineage
loaded_models  what a model consists of, and whether two fit together
blending       mean and spherical interpolation of tensors
options        the command line
"""
