"""Losses over the vectors of one global batch, with their gradients. Needs torch alone.

A loss takes raw vectors of the distinct queries (Q, D) and distinct documents (N, D) and a
`PairStructure`, which says which of them belong together, and returns a `LossResult`.
Similarity is the cosine, or the dot product with similarity="dot", in float32 (float64 stays
float64, for tests).

registry      losses by name: what each needs and which options it reads
requirements  what a loss needs of the data
selection     which loss a run takes, with which settings
structure     what the losses take and return
infonce       InfoNCE and its forms: four directions, joint softmax, hardness weights, SimCSE
candidates    which texts are negatives of a text: known answers, guided masks, options
triplet       the hinge on hard negatives
scored        losses that learn from scores: KL, margin-MSE, CoSENT, AnglE, InfoNCE + KL
matryoshka    any of them over prefixes of the vectors
added_terms   what is added to any of them: a teacher's vectors, spreading out
"""

from contrast_train.losses.added_terms import (
    spread_out,
    teacher_cosine,
    teacher_similarities,
    with_added_terms,
)
from contrast_train.losses.infonce import infonce, simcse
from contrast_train.losses.matryoshka import matryoshka
from contrast_train.losses.scored import angle, cosent, infonce_kl, kl, margin_mse
from contrast_train.losses.structure import LossResult, PairStructure, RaggedTensor
from contrast_train.losses.triplet import triplet

__all__ = [
    "LossResult",
    "PairStructure",
    "RaggedTensor",
    "angle",
    "cosent",
    "infonce",
    "infonce_kl",
    "kl",
    "margin_mse",
    "matryoshka",
    "simcse",
    "spread_out",
    "teacher_cosine",
    "teacher_similarities",
    "triplet",
    "with_added_terms",
]
