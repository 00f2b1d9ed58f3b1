"""The decoder as it is, causal, as a sentence-transformers folder with mean pooling: what the steps of LLM2Vec are compared with.

python causal.py build/llm2vec/decoder build/llm2vec/causal
"""

from __future__ import annotations

import sys

import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from fletching.encode.plain_text import leave_out_chat_template

decoder, folder = sys.argv[1:]
transformers.utils.logging.disable_progress_bar()
transformer = Transformer(decoder)
pooling = Pooling(transformer.get_embedding_dimension(), "mean")
model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
leave_out_chat_template(model)  # of an instruct model, whose steps read the texts alone
model.save_pretrained(folder, create_model_card=False)
