"""What the tests of fletching-export share: tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bare_models
import pytest


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """pipeline(kind, pooling, *modules, side=...): the folder of a new tiny model."""

    def build(kind: str, pooling: str, *modules: Any, side: str = "right", **changes: Any) -> str:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        folder = tmp_path_factory.mktemp(kind)
        one_layer = {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
        plain = bare_models.build(folder / "plain", kind, **one_layer, **changes)
        transformer = Transformer(plain)
        transformer.tokenizer.padding_side = side
        model = SentenceTransformer(
            modules=[transformer, Pooling(32, pooling_mode=pooling), *modules], device="cpu"
        )
        model.save(str(folder / "model"), create_model_card=False)
        return str(folder / "model")

    return build


@pytest.fixture(scope="session")
def static_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of static embeddings whose tokenizer would add special tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers.processors import TemplateProcessing

    tokenizer = bare_models.tokenizer()._tokenizer
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    weights = torch.randn(tokenizer.get_vocab_size(), 16, generator=torch.manual_seed(0))
    folder = Path(tmp_path_factory.mktemp("static")) / "model"
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module], device="cpu").save(str(folder), create_model_card=False)
    return str(folder)
