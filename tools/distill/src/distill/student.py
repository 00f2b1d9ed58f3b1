"""The model to train: a transformer or a token table, its projection to the teacher's dimension, and how it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fletching.encode import model as models
from fletching.errors import InputError, UsageError
from fletching.train import hardware, publish


@dataclass
class Student:
    """A SentenceTransformer that ends before its normalisation, with what decides how texts become tokens.

    saved: how many of its modules stand in the saved model; the projection after them may be left out.
    """

    model: Any
    fingerprint: str
    device: torch.device
    autocast: torch.dtype | None
    prompts: dict[str, str]
    lengths: dict[str, int]
    is_static: bool
    saved: int

    @property
    def tokenizer(self) -> Any:
        return self.model[0].tokenizer

    def tokenize(self, texts: list[str], lengths: list[int]) -> list[list[int]]:
        """Token ids of each text, cut to its length."""
        if not texts:
            return []
        if self.is_static:
            return [
                encoding.ids[:length]
                for encoding, length in zip(
                    self.tokenizer.encode_batch(texts, add_special_tokens=False), lengths
                )
            ]
        found: list[list[int]] = [[]] * len(texts)
        for length in set(lengths):
            mine = [place for place, own in enumerate(lengths) if own == length]
            ids = self.tokenizer(
                [texts[place] for place in mine],
                truncation=True,
                max_length=length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            for place, own in zip(mine, ids):
                found[place] = own
        return found


def prepare(
    options: Any,
    model: Any,
    teacher_dimension: int,
    *,
    is_static: bool,
    aligned: torch.Tensor | None = None,
) -> Student:
    """The student of a loaded model. aligned: the first weights of the projection (teacher's dimension, D), where known.

    Raises InputError or Usage where the model cannot be trained here, or the losses need a projection that is not wanted.
    """
    if options.dtype == "float16":
        raise UsageError("--dtype float16 loses small gradients", "use bfloat16 or float32")
    if not is_static:
        check_transformer(model, options.model or options.teacher[0])
    fingerprint = models.fingerprint(model)
    name = hardware.resolve_device(options.device)
    number_type = models.resolve_dtype(options.dtype, name)
    roles = ("query", "document")
    given = {
        "query": (options.query_prompt, options.query_length),
        "document": (options.doc_prompt, options.doc_length),
    }
    prompts = {role: models.role_prompt(model, role, given[role][0]) for role in roles}
    lengths = {role: models.role_length(model, role, given[role][1]) for role in roles}
    model.prompts = dict(model.prompts or {}) | {
        role: prompt for role, prompt in prompts.items() if prompt
    }
    while type(model[-1]).__name__ == "Normalize":
        del model[-1]
    saved = project(model, options, teacher_dimension, aligned)
    autocast = number_type if number_type != torch.float32 and not is_static else None
    # Masters of the weights are float32, whatever the products are computed in.
    return Student(
        model.float(), fingerprint, torch.device(name), autocast, prompts, lengths, is_static, saved
    )


def check_transformer(model: Any, name: str) -> None:
    first = model[0]
    if (
        type(first).__name__ != "Transformer"
        or set(first.modality_config) != {"text"}
        or not hasattr(first.tokenizer, "pad")
    ):
        raise InputError(
            f"--model {name} is no transformer over token ids but {type(first).__name__}",
            "train a model whose first module is a Transformer, or pass --student static",
        )
    if not all(getattr(module, "include_prompt", True) for module in model):
        raise InputError(
            f"--model {name} leaves the prompt out of pooling, which is not supported yet",
            "set include_prompt to true in its pooling",
        )


def project(model: Any, options: Any, dimension: int, aligned: torch.Tensor | None) -> int:
    """Append the projection to the teacher's dimension where one is wanted; how many modules are saved."""
    from sentence_transformers.sentence_transformer.modules import Dense

    own, wanted, bare = model.get_embedding_dimension(), options.projection, len(model)
    if wanted == "auto":
        wanted = "none" if own == dimension else "keep"
    if wanted == "none":
        if own != dimension and (options.cosine_weight or options.mse_weight):
            raise UsageError(
                f"the student has {own} dimensions, the teacher {dimension}, and --projection is none",
                "pass --projection keep or drop; or --cosine-weight 0 --mse-weight 0: the other losses compare similarities alone",
            )
    else:
        head = Dense(own, dimension, bias=True, activation_function=nn.Identity())
        with torch.no_grad():
            head.linear.bias.zero_()
            if aligned is not None and aligned.shape == head.linear.weight.shape:
                head.linear.weight.copy_(aligned)
        model.append(head)
    if wanted == "drop" and options.matryoshka:
        raise UsageError(
            "--matryoshka shortens the projection's output, and --projection drop saves the model without it",
            "pass --projection keep",
        )
    trained = dimension if wanted != "none" else own
    too_many = [dim for dim in options.matryoshka if dim > trained]
    if too_many:
        raise UsageError(
            f"--matryoshka {too_many[0]} is above the student's {trained} dimensions",
            f"pass at most {trained}",
        )
    return bare if wanted == "drop" else len(model)


def drop_layers(model: Any, layers: int) -> None:
    """Keep so many of a transformer's layers, the first, the last and evenly between. Raises Usage where it has fewer."""
    transformer = model[0].model
    config = transformer.config.get_text_config()
    have = config.num_hidden_layers
    found = [
        (parent, name)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == have
    ]
    if layers > have:
        raise UsageError(
            f"--student-layers {layers}: the model has {have} layers", f"pass at most {have}"
        )
    if len(found) != 1:
        raise InputError(
            "--student-layers: the layers of this architecture cannot be told",
            "make the smaller model yourself: --model",
        )
    kept = kept_layers(have, layers)
    parent, name = found[0]
    setattr(parent, name, nn.ModuleList([getattr(parent, name)[number] for number in kept]))
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[number] for number in kept]
    for number, layer in enumerate(getattr(parent, name)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number


def kept_layers(have: int, layers: int) -> list[int]:
    """
    >>> kept_layers(6, 3), kept_layers(12, 4), kept_layers(6, 1)
    ([0, 2, 5], [0, 4, 7, 11], [0])
    """
    return [round(number * (have - 1) / max(layers - 1, 1)) for number in range(layers)]


def save(student: Student, folder: str, *, trust_remote_code: bool) -> int:
    """A plain sentence-transformers folder, reloaded and held against the model in memory; its dimension."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    trained = student.model.eval().to("cpu")
    modules = [*list(trained)[: student.saved], Normalize()]
    model = SentenceTransformer(
        modules=modules, device="cpu", prompts=trained.prompts, similarity_fn_name="cosine"
    )
    if not student.is_static:
        model.max_seq_length = max(model.max_seq_length or 0, *student.lengths.values())
    model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
    publish.save_code(modules, folder)
    probe = ["a", "What is the capital of France?", "def add(a, b):\n    return a + b\n" * 3]
    settings = {"use_safetensors": True}
    again = SentenceTransformer(
        folder, device="cpu", trust_remote_code=trust_remote_code, model_kwargs=settings
    )
    ours, theirs = (
        each.encode(probe, convert_to_tensor=True, show_progress_bar=False)
        for each in (model, again)
    )
    if not torch.allclose(ours, theirs, atol=1e-5):
        raise InputError(
            "the saved model gives other vectors than the trained one",
            "report this; the checkpoints stand in the .run folder",
        )
    return model.get_embedding_dimension() or len(ours[0])
