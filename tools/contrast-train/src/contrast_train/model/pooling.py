"""How token vectors become one: chosen for a bare transformer, checked against a model's own
pooling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fletching.errors import UsageError
from fletching.pooling import POOLINGS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def apply_pooling(model: SentenceTransformer, name: str, pooling: str | None) -> bool:
    """Give a SentenceTransformer its pooling, in place; False where it has one of its own.

    name: where it was loaded from.

    A bare transformer, without sentence-transformers modules, pools as asked for; by default,
    by the mean if each token attends to the later ones, else by the last token, the only one
    that has seen all. Raises UsageError where a model with a pooling of its own is asked for
    another.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.util import is_sentence_transformer_model

    modules = {key: each for key, each in model.named_children() if isinstance(each, Pooling)}
    if is_sentence_transformer_model(name):
        mode = next((each.pooling_mode for each in modules.values()), None)
        if pooling is not None and POOLINGS[pooling].mode != mode:
            raise UsageError(
                f"--pooling {pooling}, but the model {name} pools by {mode or 'another way'}",
                "leave --pooling out, or name a bare transformer",
            )
        return False
    transformer: Any = model[0]
    chosen = POOLINGS[pooling or ("mean" if is_bidirectional(transformer) else "last")]
    model._modules[next(iter(modules))] = Pooling(
        transformer.get_embedding_dimension(), chosen.mode
    )
    tokenizer = transformer.tokenizer
    if chosen.needs_eos:
        append_eos(tokenizer, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return True


@torch.no_grad()
def is_bidirectional(transformer: nn.Module) -> bool:
    """Does a later token change the vector of an earlier one? False: the model is causal."""
    device = next(transformer.parameters()).device
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]], device=device)
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "modality": "text"}
    shared_prefix = transformer(features)["token_embeddings"][:, :3].float()  # (2, 3, D)
    return not torch.allclose(shared_prefix[0], shared_prefix[1], atol=1e-5)


def append_eos(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Make the tokenizer end every text, truncated ones too, with its end-of-text token;
    saved with it.

    Raises UsageError where it has none.
    """
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"the tokenizer of {name} has no end-of-text token, which --pooling last reads",
            "use --pooling mean",
        )
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        return
    from tokenizers import processors

    token = tokenizer.eos_token
    backend: Any = tokenizer.backend_tokenizer
    template = processors.TemplateProcessing(
        single=f"$A {token}",
        pair=f"$A {token} $B {token}",
        special_tokens=[(token, tokenizer.eos_token_id)],
    )
    before = backend.post_processor
    backend.post_processor = template if before is None else processors.Sequence([before, template])
