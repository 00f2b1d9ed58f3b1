"""The model to train: loaded, its prompts and lengths checked against the data, saved and
reloaded.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from contrast_train.data.collator import (
    ContrastCollator,
    DocumentVectors,
    GuideVectors,
    TeacherVectors,
)
from contrast_train.data.rank_exchange import RankExchange
from contrast_train.model import head, lora, pooling, probe
from contrast_train.options import Options
from fletching.encode import model as models
from fletching.encode.plain_text import refuse_chat_template
from fletching.encode.preprocessing import require_tokens
from fletching.encode.prompt_tokens import count_prompt_tokens
from fletching.errors import InputError, UsageError
from fletching.train import hardware, publish
from fletching.train.distributed import fsdp, process_group

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import BitsAndBytesConfig

NO_TRUNCATION = 1 << 20  # tokens
SAVING_TOLERANCE = 1e-4  # of a vector's length: the reloaded model may use another attention kernel


@dataclass(kw_only=True)
class Backbone:
    """A SentenceTransformer over token ids, with what decides how texts become tokens.

    fingerprint: with the pooling that it is trained with; loaded_fingerprint: as any other tool
    loads it. prompts, lengths: by role, "query" and "document"; a row may have a prompt of its own.
    """

    model: SentenceTransformer
    fingerprint: str
    loaded_fingerprint: str = ""
    device: torch.device
    autocast: torch.dtype | None
    prompts: dict[str, str]
    lengths: dict[str, int]

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401  # a PreTrainedTokenizerBase, whose calls are untyped
        """The model's."""
        first: Any = self.model[0]
        return first.tokenizer

    def tokenize(self, texts: list[str], length: int) -> list[list[int]]:
        """The token ids of each text, truncated to the length."""
        return self._token_ids(texts, truncation=True, max_length=length)

    def count_tokens(self, texts: list[str]) -> list[int]:
        """How many tokens each text has before it is truncated."""
        return [len(ids) for ids in self._token_ids(texts, truncation=False)]

    def _token_ids(self, texts: list[str], **settings: bool | int) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.tokenizer(
            texts, return_attention_mask=False, return_token_type_ids=False, **settings
        )
        ids: list[list[int]] = encoded["input_ids"]
        require_tokens(texts, ids)
        return ids

    def prompt_tokens(self, texts: Sequence[tuple[str, str]]) -> list[int]:
        """How many tokens of each (prompt, text) are before the text."""
        return count_prompt_tokens(self.tokenizer, texts)

    def describe_prompts(self) -> list[str]:
        """A line for each prompt of which sentence-transformers leaves out one token too many."""
        lines = []
        for prompt in filter(None, {} if self.pools_prompts else self.prompts.values()):
            ids = self.tokenize([prompt], NO_TRUNCATION)[0]
            alone = len(ids) - (ids[-1] in self.tokenizer.all_special_ids)
            [before_text] = self.prompt_tokens([(prompt, "a")])
            if alone != before_text:
                lines.append(
                    f"the prompt {prompt!r} is {before_text} tokens before a text and {alone} "
                    "alone: plain sentence-transformers will leave the first token of a text out "
                    "too; end the prompt without a blank"
                )
        return lines

    @property
    def pools_prompts(self) -> bool:
        """Are the tokens of prompts part of the pooled vector?"""
        return all(getattr(module, "include_prompt", True) for module in self.model)

    def collator(
        self,
        *,
        views: bool = False,
        guide: GuideVectors | None = None,
        teacher: TeacherVectors | None = None,
        document_vectors: DocumentVectors | None = None,
        exchange: RankExchange | None = None,
    ) -> ContrastCollator:
        """Rows to tensors by this model's tokenizer, prompts and lengths."""
        return ContrastCollator(
            tokenize=self.tokenize,
            query_prompt=self.prompts["query"],
            doc_prompt=self.prompts["document"],
            query_length=self.lengths["query"],
            doc_length=self.lengths["document"],
            views=views,
            guide=guide,
            teacher=teacher,
            document_vectors=document_vectors,
            prompt_tokens=None if self.pools_prompts else self.prompt_tokens,
            exchange=exchange or RankExchange(),
        )


def load(options: Options) -> Backbone:
    """The model of --model. Raises InputError or UsageError where it cannot be trained here."""
    if options.dtype == "float16":
        raise UsageError("--dtype float16 loses small gradients", "use bfloat16 or float32")
    # peft and we call what transformers is renaming to activation_checkpointing; each call
    # would warn.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
    model = _load_transformer(options, lora.four_bit_config() if options.lora_4bit else None)
    fingerprint = loaded_fingerprint = models.fingerprint(model)
    if pooling.apply_pooling(model, options.model, options.pooling):
        fingerprint = models.fingerprint(model)
    device = hardware.resolve_device(options.device)
    dtype = models.resolve_dtype(options.dtype, device)
    lengths = {
        "query": models.role_length(model, "query", options.query_length),
        "document": models.role_length(model, "document", options.doc_length),
    }
    prompts = {
        "query": models.role_prompt(model, "query", options.query_prompt),
        "document": models.role_prompt(model, "document", options.doc_prompt),
    }
    # Masters of the weights are float32, whatever the products are computed in.
    model.float()
    if options.lora:
        lora.attach(model, options)
    if options.gradient_checkpointing:
        checkpoint_activations(model, options.model)
    return Backbone(
        model=model,
        fingerprint=fingerprint,
        loaded_fingerprint=loaded_fingerprint,
        device=torch.device(device),
        autocast=None if dtype == torch.float32 else dtype,
        prompts=prompts,
        lengths=lengths,
    )


def load_bare(options: Options) -> SentenceTransformer:
    """The SentenceTransformer over token ids that --model names, with its pooling, without
    adapters.
    """
    model = _load_transformer(options)
    pooling.apply_pooling(model, options.model, options.pooling)
    return model


def load_untrained(options: Options) -> SentenceTransformer:
    """The model before the first step, on the CPU: with its pooling and head, without adapters,
    which change nothing yet.
    """
    model = load_bare(options)
    head.apply_options(model, options)
    return model


def untrained_fingerprint(backbone: Backbone, options: Options) -> str:
    """Of the model that gives the documents' vectors before the first step, in full precision.

    A Matryoshka layer is left out: where it keeps the dimension, it starts as the identity.
    """
    pools_otherwise = options.prompt_pooling and backbone.prompts["document"]
    if not (pools_otherwise or options.lora_4bit):
        return backbone.fingerprint
    model = load_bare(options)
    head.set_prompt_pooling(model, options.prompt_pooling)
    return models.fingerprint(model)


def _load_transformer(
    options: Options, quantization: BitsAndBytesConfig | None = None
) -> SentenceTransformer:
    """What --model names, before a bare transformer has its pooling."""
    model: SentenceTransformer = models.load(
        options.model, trust_remote_code=options.trust_remote_code, quantization=quantization
    )
    refuse_chat_template(model, options.model)
    first: Any = model[0]
    is_text_transformer = (
        type(first).__name__ == "Transformer"
        and set(first.modality_config) == {"text"}
        and hasattr(first.tokenizer, "pad")
    )
    if not is_text_transformer:
        raise InputError(
            f"--model {options.model} is no transformer over token ids but {type(first).__name__}",
            "train a model whose first module is a Transformer",
        )
    return model


def base_weights(options: Options) -> dict[str, torch.Tensor]:
    """Every parameter of the model as it was before training, float32, on the CPU."""
    model = load_bare(options).float()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def checkpoint_activations(model: SentenceTransformer, name: str) -> None:
    """Keep the input of each layer only, and compute the layer again in the backward pass."""
    first: Any = model[0]
    if not getattr(first.model, "supports_gradient_checkpointing", False):
        raise UsageError(
            f"--gradient-checkpointing: {name} does not offer it",
            "leave it out; --batch-tokens bounds the memory as well",
        )
    first.model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": False}
    )


def gather(backbone: Backbone, options: Options) -> None:
    """A whole model of full precision in place of a sharded or quantised one, in the first
    process.

    Every process must call it.
    """
    weights = fsdp.full_weights(backbone.model)
    if process_group.is_main():
        restore_base(backbone, options)
        fsdp.load_full_weights(backbone.model, weights)


def restore_base(backbone: Backbone, options: Options) -> None:
    """The whole model as it was before the first step, in place of the trained one."""
    prompts = backbone.model.prompts
    backbone.model = load_bare(options).float()
    if options.lora:
        lora.attach(backbone.model, options)
    head.apply_options(backbone.model, options)
    backbone.model.prompts = prompts


def reconcile_prompts(
    backbone: Backbone, rows_by_prompt: Counter[str | None], option: str | None
) -> None:
    """Check the data's query prompts against the model's or the option's; set those to be
    saved.

    rows_by_prompt: None for rows without one. Raises InputError where two of them differ: a
    model that is trained under one prompt and used under another is worse, and nothing says
    so.
    """
    data_prompts = [prompt for prompt in rows_by_prompt if prompt is not None]
    query_prompt = backbone.prompts["query"]
    for prompt in data_prompts:
        if query_prompt and prompt != query_prompt:
            source = "--query-prompt" if option is not None else "the model"
            raise InputError(
                f"the data asks for the query prompt {prompt[:40]!r}, "
                f"{source} for {query_prompt[:40]!r}",
                "drop the column `prompt`, or pass the data's prompt as --query-prompt",
            )
    saved = dict(backbone.model.prompts or {})
    if len(rows_by_prompt) == 1 and data_prompts:
        saved["query"] = data_prompts[0]
    elif query_prompt:
        saved["query"] = query_prompt
    if backbone.prompts["document"]:
        saved["document"] = backbone.prompts["document"]
    backbone.model.prompts = saved


def save(backbone: Backbone, folder: str, options: Options) -> None:
    """Write a plain sentence-transformers folder; raises InputError where it reloads as
    another model.
    """
    from sentence_transformers import SentenceTransformer

    model: SentenceTransformer = backbone.model.eval().to("cpu")
    model.max_seq_length = max(model.max_seq_length or 0, *backbone.lengths.values())
    if options.lora and options.lora_merge:
        lora.merge(model)
    model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
    publish.save_code(model, folder)
    reloaded = SentenceTransformer(
        folder,
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        model_kwargs={"use_safetensors": True},
    )
    change = probe.largest_change(probe.vectors(model), probe.vectors(reloaded))
    if change > SAVING_TOLERANCE:
        raise InputError(
            "the saved model gives other vectors than the trained one",
            "report this; the checkpoints are in the .run folder",
        )
