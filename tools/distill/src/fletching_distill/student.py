"""The student: a transformer or static embeddings, its projection to the teacher's dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fletching.encode import model as models
from fletching.encode.plain_text import refuse_chat_template
from fletching.encode.preprocessing import require_tokens
from fletching.errors import InputError, UsageError
from fletching.train import hardware, publish
from fletching_distill.options import Options

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PROBE = ["a", "What is the capital of France?", "def add(a, b):\n    return a + b\n" * 3]


@dataclass(kw_only=True)
class Student:
    """A model that ends before its normalisation, and what decides how texts become tokens.

    autocast: number type of matrix products; None: float32. prompts, lengths: by role.
    saved_modules: how many of its modules are saved; the projection after them may be left out.
    """

    model: SentenceTransformer
    fingerprint: str
    device: torch.device
    autocast: torch.dtype | None
    prompts: dict[str, str]
    lengths: dict[str, int]
    is_static: bool
    saved_modules: int

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401  # transformers' or tokenizers', by the student
        """The tokenizer of the first module."""
        first_module: Any = self.model[0]
        return first_module.tokenizer

    def tokenize(self, texts: Sequence[str], lengths: Sequence[int]) -> list[list[int]]:
        """Token ids of each text, truncated to its length."""
        if not texts:
            return []
        if self.is_static:
            encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
            return [encoding.ids[:length] for encoding, length in zip(encodings, lengths)]
        tokens: list[list[int]] = [[]] * len(texts)
        for length in set(lengths):
            positions = [i for i, length_of_text in enumerate(lengths) if length_of_text == length]
            encoded = self.tokenizer(
                [texts[i] for i in positions],
                truncation=True,
                max_length=length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            require_tokens([texts[i] for i in positions], encoded["input_ids"])
            for i, ids in zip(positions, encoded["input_ids"]):
                tokens[i] = ids
        return tokens


def prepare(
    options: Options,
    model: SentenceTransformer,
    teacher_dimension: int,
    *,
    is_static: bool,
    axes: Tensor | None = None,
) -> Student:
    """The student of a loaded model.

    axes: the initial weights of the projection (teacher's dimension, D), where they are known.
    Raises InputError or UsageError where the model cannot be trained here, or where the losses
    need the projection that --projection denies.
    """
    if options.dtype == "float16":
        raise UsageError("--dtype float16 loses small gradients", "use bfloat16 or float32")
    if not is_static:
        check_transformer(model, options.model or options.teacher[0])
    fingerprint = models.fingerprint(model)
    device = hardware.resolve_device(options.device)
    dtype = models.resolve_dtype(options.dtype, device)
    prompts = {
        "query": models.role_prompt(model, "query", options.query_prompt),
        "document": models.role_prompt(model, "document", options.doc_prompt),
    }
    lengths = {
        "query": models.role_length(model, "query", options.query_length),
        "document": models.role_length(model, "document", options.doc_length),
    }
    chosen_prompts = {role: prompt for role, prompt in prompts.items() if prompt}
    model.prompts = {**(model.prompts or {}), **chosen_prompts}
    while type(model[-1]).__name__ == "Normalize":
        del model[-1]
    saved_modules = add_projection(model, options, teacher_dimension, axes=axes)
    return Student(
        model=model.float(),  # master weights are float32, whatever the products are computed in
        fingerprint=fingerprint,
        device=torch.device(device),
        autocast=None if is_static or dtype == torch.float32 else dtype,
        prompts=prompts,
        lengths=lengths,
        is_static=is_static,
        saved_modules=saved_modules,
    )


def check_transformer(model: SentenceTransformer, name: str) -> None:
    """Raise InputError where the first module is no transformer over token ids."""
    refuse_chat_template(model, name)
    first_module: Any = model[0]
    is_transformer = (
        type(first_module).__name__ == "Transformer"
        and set(first_module.modality_config) == {"text"}
        and hasattr(first_module.tokenizer, "pad")
    )
    if not is_transformer:
        raise InputError(
            f"--model {name} is no transformer over token ids but {type(first_module).__name__}",
            "train a model whose first module is a Transformer, or pass --student static",
        )
    if not all(getattr(module, "include_prompt", True) for module in model):
        raise InputError(
            f"--model {name} leaves the prompt out of pooling, which is not supported yet",
            "set include_prompt to true in its pooling",
        )


def add_projection(
    model: SentenceTransformer, options: Options, teacher_dimension: int, *, axes: Tensor | None
) -> int:
    """Append the projection to the teacher's dimension, if any; how many modules are saved.

    Raises UsageError where losses or --matryoshka do not fit the dimensions.
    """
    student_dimension, modules = model.get_embedding_dimension() or 0, len(model)
    projection: str = options.projection
    if projection == "auto":
        projection = "none" if student_dimension == teacher_dimension else "keep"
    compares_vectors = options.cosine_weight or options.mse_weight
    if projection == "none" and student_dimension != teacher_dimension and compares_vectors:
        raise UsageError(
            f"the student has {student_dimension} dimensions, the teacher {teacher_dimension}, "
            "and --projection is none",
            "pass --projection keep or drop; or --cosine-weight 0 --mse-weight 0: the other losses "
            "compare similarities alone",
        )
    if projection != "none":
        model.append(linear_projection(student_dimension, teacher_dimension, axes))
    if projection == "drop" and options.matryoshka:
        raise UsageError(
            "--matryoshka truncates the projection's output, and --projection drop saves the model "
            "without it",
            "pass --projection keep",
        )
    dimension = student_dimension if projection == "none" else teacher_dimension
    too_large = [dim for dim in options.matryoshka if dim > dimension]
    if too_large:
        raise UsageError(
            f"--matryoshka {too_large[0]} is above the student's {dimension} dimensions",
            f"pass at most {dimension}",
        )
    return modules if projection == "drop" else len(model)


def linear_projection(dimension: int, teacher_dimension: int, axes: Tensor | None) -> nn.Module:
    """A linear layer whose weights begin as `axes`, where these fit, and whose bias as zero."""
    from sentence_transformers.sentence_transformer.modules import Dense

    dense = Dense(dimension, teacher_dimension, bias=True, activation_function=nn.Identity())
    linear: nn.Linear = dense.linear
    with torch.no_grad():
        linear.bias.zero_()
        if axes is not None and axes.shape == linear.weight.shape:
            linear.weight.copy_(axes)
    return dense


def drop_layers(model: SentenceTransformer, layers: int) -> None:
    """Keep so many of a transformer's layers: the first, the last and evenly between.

    Raises UsageError where it has fewer, InputError where its layers are not recognised.
    """
    first_module: Any = model[0]
    transformer: nn.Module = first_module.model
    config = first_module.model.config.get_text_config()
    count = config.num_hidden_layers
    if layers > count:
        raise UsageError(
            f"--student-layers {layers}: the model has {count} layers", f"pass at most {count}"
        )
    candidates = [
        (parent, name)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    if len(candidates) != 1:
        raise InputError(
            "--student-layers: the layers of this architecture are not recognised",
            "make the smaller model yourself: --model",
        )
    parent, name = candidates[0]
    kept = kept_layers(count, layers)
    blocks: Any = getattr(parent, name)
    kept_blocks = nn.ModuleList([blocks[number] for number in kept])
    setattr(parent, name, kept_blocks)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[number] for number in kept]
    for number, block in enumerate(kept_blocks):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number  # type: ignore[assignment]


def kept_layers(count: int, layers: int) -> list[int]:
    """The numbers of the layers that are kept, of `count`.

    >>> kept_layers(6, 3), kept_layers(12, 4), kept_layers(6, 1)
    ([0, 2, 5], [0, 4, 7, 11], [0])
    """
    return [round(number * (count - 1) / max(layers - 1, 1)) for number in range(layers)]


def save(student: Student, folder: str, *, trust_remote_code: bool) -> int:
    """Write a plain sentence-transformers folder; the dimension of its vectors.

    Raises InputError where the model loaded from it gives other vectors than the one in memory.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    trained = student.model.eval().to("cpu")
    modules = [*list(trained)[: student.saved_modules], Normalize()]
    prompts: Any = trained.prompts
    model = SentenceTransformer(
        modules=modules, device="cpu", prompts=prompts, similarity_fn_name="cosine"
    )
    if not student.is_static:
        model.max_seq_length = max(model.max_seq_length or 0, *student.lengths.values())
    model.save_pretrained(folder, create_model_card=False, safe_serialization=True)
    publish.save_code(modules, folder)

    loaded = SentenceTransformer(
        folder,
        device="cpu",
        trust_remote_code=trust_remote_code,
        model_kwargs={"use_safetensors": True},
    )
    vectors, loaded_vectors = probe_vectors(model), probe_vectors(loaded)
    if not torch.allclose(vectors, loaded_vectors, atol=1e-5):
        raise InputError(
            "the saved model gives other vectors than the trained one",
            "report this; the checkpoints are in the .run folder",
        )
    return model.get_embedding_dimension() or len(vectors[0])


def probe_vectors(model: SentenceTransformer) -> Tensor:
    """Vectors (3, D) of the probe."""
    return model.encode(PROBE, convert_to_tensor=True, show_progress_bar=False)
