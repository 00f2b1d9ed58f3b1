"""The model to train: loaded, its prompts and lengths settled against the data, saved and checked."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from contrast_train.data.collator import Collator
from contrast_train.model import head, lora, pooling
from fletching.encode import model as models
from fletching.errors import InputError, UsageError
from fletching.train import hardware, publish
from fletching.train.distributed import fsdp, process_group


@dataclass
class Backbone:
    """A SentenceTransformer over token ids, with what decides how texts become tokens."""

    model: Any
    fingerprint: str
    device: torch.device
    autocast: torch.dtype | None
    prompts: dict[str, str]  # of "query" and "document", for rows without one of their own
    lengths: dict[str, int]
    counted: dict[str, int] = field(default_factory=dict)  # tokens of each prompt

    @property
    def tokenizer(self) -> Any:
        return self.model[0].tokenizer

    def tokenize(self, texts: list[str], length: int) -> list[list[int]]:
        return (
            self.tokenizer(
                texts,
                truncation=True,
                max_length=length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            if texts
            else []
        )

    def untruncated(self, texts: list[str]) -> list[int]:
        """How many tokens each text has before it is cut."""
        return (
            [
                len(ids)
                for ids in self.tokenizer(
                    texts,
                    truncation=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                )["input_ids"]
            ]
            if texts
            else []
        )

    def prompt_tokens(self, prompt: str) -> int:
        """How many tokens of a text are its prompt, counted as sentence-transformers does."""
        if prompt not in self.counted:
            ids = self.tokenize([prompt], 1 << 20)[0] if prompt else []
            self.counted[prompt] = len(ids) - bool(
                ids and ids[-1] in self.tokenizer.all_special_ids
            )
        return self.counted[prompt]

    @property
    def pools_prompts(self) -> bool:
        return all(getattr(module, "include_prompt", True) for module in self.model)

    def collator(self, views: bool = False, guide: Any = None) -> Collator:
        return Collator(
            self.tokenize,
            self.prompts["query"],
            self.prompts["document"],
            self.lengths["query"],
            self.lengths["document"],
            views,
            guide,
            None if self.pools_prompts else self.prompt_tokens,
        )


def load(options: Any) -> Backbone:
    """Raises InputError or Usage where the model is not one that can be trained here."""
    if options.dtype == "float16":
        raise UsageError("--dtype float16 loses small gradients", "use bfloat16 or float32")
    # peft and we call what transformers is renaming to activation_checkpointing, and each call would be told.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    model = plain(options, lora.four_bit() if options.lora_4bit else None)
    name = hardware.resolve_device(options.device)
    number_type = models.resolve_dtype(options.dtype, name)
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
    model.float()
    if options.lora:
        lora.attach(model, options)
    if options.gradient_checkpointing:
        recompute(model, options.model)
    return Backbone(model, print_of, torch.device(name), autocast, prompts, lengths)


def plain(options: Any, quantization: Any = None) -> Any:
    """The SentenceTransformer over token ids that --model names, with its pooling."""
    model = models.load(
        options.model, trust_remote_code=options.trust_remote_code, quantization=quantization
    )
    first = model[0]
    if not (
        type(first).__name__ == "Transformer"
        and set(first.modality_config) == {"text"}
        and hasattr(first.tokenizer, "pad")
    ):
        raise InputError(
            f"--model {options.model} is no transformer over token ids but {type(first).__name__}",
            "train a model whose first module is a Transformer",
        )
    pooling.settle(model, options.model, options.pooling)
    return model


def base_weights(options: Any) -> dict[str, torch.Tensor]:
    """Every parameter of the model as it was before training, float32, on the CPU."""
    return {
        name: parameter.detach() for name, parameter in plain(options).float().named_parameters()
    }


def recompute(model: Any, name: str) -> None:
    """Keep the input of each layer only, and compute the layer again in the backward pass."""
    if not getattr(model[0].model, "supports_gradient_checkpointing", False):
        raise UsageError(
            f"--gradient-checkpointing: {name} does not offer it",
            "leave it out; --batch-tokens bounds the memory as well",
        )
    model[0].model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": False}
    )


def gather(backbone: Backbone, options: Any) -> None:
    """A whole model of full precision in place of a sharded or quantised one, in the first process.

    Every process must call it.
    """
    weights = fsdp.full_weights(backbone.model)
    if process_group.is_main():
        prompts = backbone.model.prompts
        backbone.model = plain(options).float()
        if options.lora:
            lora.attach(backbone.model, options)
        head.settle(backbone.model, options)
        backbone.model.prompts = prompts
        fsdp.load_full_weights(backbone.model, weights)


def settle_prompts(backbone: Backbone, found: Counter[str | None], given: str | None) -> None:
    """Hold the data's prompts against the model's or the option's; what the trained model shall save.

    Raises InputError where two of them differ: a model trained under one prompt and used under another
    is worse without saying so.
    """
    of_data = [prompt for prompt in found if prompt is not None]
    own = backbone.prompts["query"]
    for prompt in of_data:
        if own and prompt != own:
            source = "--query-prompt" if given is not None else "the model"
            raise InputError(
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


def save(backbone: Backbone, folder: str, options: Any) -> None:
    """A plain sentence-transformers folder, reloaded and held against the model in memory."""
    from sentence_transformers import SentenceTransformer

    model = backbone.model.eval().to("cpu")
    model.max_seq_length = max(model.max_seq_length or 0, *backbone.lengths.values())
    if options.lora and options.lora_merge:
        lora.merge(model)
    model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
    publish.save_code(model, folder)
    settings = {"use_safetensors": True}
    again = SentenceTransformer(
        folder, device="cpu", trust_remote_code=options.trust_remote_code, model_kwargs=settings
    )
    if not torch.allclose(lora.vectors(model), lora.vectors(again), atol=1e-5):
        raise InputError(
            "the saved model gives other vectors than the trained one",
            "report this; the checkpoints stand in the .run folder",
        )
