"""The decoder as it is, causal, as a sentence-transformers folder with mean pooling: what the steps of LLM2Vec are compared with.

python causal.py build/llm2vec/decoder build/llm2vec/causal
"""

from __future__ import annotations

import sys

import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

decoder, folder = sys.argv[1:]
transformers.utils.logging.disable_progress_bar()
transformer = Transformer(decoder)
pooling = Pooling(transformer.get_embedding_dimension(), "mean")
SentenceTransformer(modules=[transformer, pooling], device="cpu").save_pretrained(
    folder, create_model_card=False
)
