"""How token vectors become one: chosen for a bare transformer, held against a model that has its own way."""

from __future__ import annotations

from typing import Any

import torch

from fletching.errors import UsageError

MODES = {
    "cls": "cls",
    "mean": "mean",
    "last": "lasttoken",
    "weighted": "weightedmean",
}  # ours: sentence-transformers' names


def settle(model: Any, name: str, wanted: str | None) -> None:
    """Give a SentenceTransformer its pooling, in place. name: where it was loaded from.

    A bare transformer, without sentence-transformers modules, pools as `wanted`; where nothing is asked
    for, by the mean if each token sees the later ones, else by the last token, the only one that has seen
    all. Raises Usage where a model with a pooling of its own is asked for another.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.util import is_sentence_transformer_model

    places = [place for place, module in model.named_children() if isinstance(module, Pooling)]
    if is_sentence_transformer_model(name):
        own = model._modules[places[0]].pooling_mode if places else "in another way"
        if wanted and MODES[wanted] != own:
            raise UsageError(
                f"--pooling {wanted}, but the model {name} pools by {own}",
                "leave --pooling out, or name a bare transformer",
            )
        return
    mode = wanted or ("mean" if reads_ahead(model[0]) else "last")
    model._modules[places[0]] = Pooling(model[0].get_embedding_dimension(), MODES[mode])
    tokenizer = model[0].tokenizer
    if mode == "last":
        end_with_eos(tokenizer, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token


@torch.no_grad()
def reads_ahead(transformer: Any) -> bool:
    """Whether a later token changes the vector of an earlier one: bidirectional, or causal."""
    device = next(transformer.parameters()).device
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]], device=device)
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "modality": "text"}
    before, after = transformer(features)["token_embeddings"][:, :3].float()  # (3, D) each
    return not torch.allclose(before, after, atol=1e-5)


def end_with_eos(tokenizer: Any, name: str) -> None:
    """Make the tokenizer end every text, cut ones too, with its end-of-text token; saved with it.

    Raises Usage where it has none.
    """
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"the tokenizer of {name} has no end-of-text token, which --pooling last reads",
            "use --pooling mean",
        )
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        return
    from tokenizers import processors

    end = tokenizer.eos_token
    backend = tokenizer.backend_tokenizer
    closing = processors.TemplateProcessing(
        single=f"$A {end}",
        pair=f"$A {end} $B {end}",
        special_tokens=[(end, tokenizer.eos_token_id)],
    )
    before = backend.post_processor
    backend.post_processor = (
        processors.Sequence([before, closing]) if before is not None else closing
    )
