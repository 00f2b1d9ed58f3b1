"""The model to train: loaded, its prompts and lengths settled against the data, saved and checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from contrast_train.collate import Collator
from fletching.encode import model as models
from fletching.errors import Refused, Usage
from fletching.options import Model


@dataclass
class Backbone:
    """A SentenceTransformer over token ids, with what decides how texts become tokens."""

    model: Any
    fingerprint: str
    device: torch.device
    autocast: torch.dtype | None
    prompts: dict[str, str]  # of "query" and "document", for rows without one of their own
    lengths: dict[str, int]

    @property
    def tokenizer(self) -> Any:
        return self.model[0].tokenizer

    def tokenize(self, texts: list[str], length: int) -> list[list[int]]:
        return (
            self.tokenizer(texts, truncation=True, max_length=length, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            if texts
            else []
        )

    def untruncated(self, texts: list[str]) -> list[int]:
        """How many tokens each text has before it is cut."""
        return (
            [
                len(ids)
                for ids in self.tokenizer(texts, truncation=False, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            ]
            if texts
            else []
        )

    def collator(self) -> Collator:
        return Collator(self.tokenize, self.prompts["query"], self.prompts["document"], self.lengths["query"], self.lengths["document"])


def load(options: Model) -> Backbone:
    """Raises Refused or Usage where the model is not one that can be trained here."""
    if options.dtype == "float16":
        raise Usage("--dtype float16 loses small gradients", "use bfloat16 or float32")
    model = models.load(options.model, trust_remote_code=options.trust_remote_code)
    first = model[0]
    plain = type(first).__name__ == "Transformer" and set(first.modality_config) == {"text"} and hasattr(first.tokenizer, "pad")
    if not plain:
        raise Refused(
            f"--model {options.model} is no transformer over token ids but {type(first).__name__}",
            "train a model whose first module is a Transformer",
        )
    if not all(getattr(module, "include_prompt", True) for module in model):
        raise Refused(
            f"--model {options.model} leaves the prompt out of pooling, which is not supported yet",
            "set include_prompt to true in its pooling",
        )
    name = models.devices(options.device)[0]
    number_type = models.number_type(options.dtype, name)
    autocast = number_type if number_type != torch.float32 else None
    lengths = {
        "query": models.role_length(model, "query", options.query_length),
        "document": models.role_length(model, "document", options.doc_length),
    }
    prompts = {
        "query": models.role_prompt(model, "query", options.query_prompt),
        "document": models.role_prompt(model, "document", options.doc_prompt),
    }
    print_of = models.fingerprint(model)
    # Masters of the weights are float32, whatever the products are computed in.
    return Backbone(model.float(), print_of, torch.device(name), autocast, prompts, lengths)


def settle_prompts(backbone: Backbone, found: Counter[str | None], given: str | None) -> None:
    """Hold the data's prompts against the model's or the option's; what the trained model shall save.

    Raises Refused where two of them differ: a model trained under one prompt and used under another
    is worse without saying so.
    """
    of_data = [prompt for prompt in found if prompt is not None]
    own = backbone.prompts["query"]
    for prompt in of_data:
        if own and prompt != own:
            source = "--query-prompt" if given is not None else "the model"
            raise Refused(
                f"the data asks for the query prompt {prompt[:40]!r}, {source} for {own[:40]!r}",
                "drop the column `prompt`, or pass the data's prompt as --query-prompt",
            )
    saved = dict(backbone.model.prompts or {})
    if len(found) == 1 and of_data:
        saved["query"] = of_data[0]
    elif own:
        saved["query"] = own
    if backbone.prompts["document"]:
        saved["document"] = backbone.prompts["document"]
    backbone.model.prompts = saved


def save(backbone: Backbone, folder: str) -> None:
    """A plain sentence-transformers folder, reloaded and held against the model in memory."""
    from sentence_transformers import SentenceTransformer

    model = backbone.model.eval().to("cpu")
    model.max_seq_length = max(model.max_seq_length or 0, *backbone.lengths.values())
    model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
    probe = ["a", "What is the capital of France?", "def add(a, b):\n    return a + b\n" * 3]
    again = SentenceTransformer(folder, device="cpu", model_kwargs={"use_safetensors": True})
    ours, theirs = (each.encode(probe, convert_to_tensor=True, show_progress_bar=False) for each in (model, again))
    if not torch.allclose(ours, theirs, atol=1e-5):
        raise Refused("the saved model gives other vectors than the trained one", "report this; the checkpoints stand in the .run folder")
