"""The output: a plain sentence-transformers folder that is bidirectional wherever it is loaded."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch

from fletching.encode.plain_text import leave_out_chat_template
from fletching.errors import InputError
from fletching.pooling import POOLINGS
from fletching.train.checkpoint_check import read_json
from mntp import attention, masked_lm
from mntp.decoder import Decoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    from mntp.options import Options

BASE = "base"  # the base model of an adapter that is not merged, in the published folder
MERGE_TOLERANCE = 1e-4


def save(decoder: Decoder, folder: str, options: Options, *, output: str) -> SentenceTransformer:
    """Write the folder; the model as loaded from it, checked to be bidirectional and equal.

    output: the path under which the folder is published. Without --lora-merge it holds the adapter
    and its base, whose configuration says that it is not causal: an adapter over a causal base
    would load causal, without a warning.
    Raises InputError where the saved model differs from the one in memory.
    """
    network: Any = decoder.network
    network.to("cpu").float().eval()
    before, bare = probe_states(network), folder + ".bare"
    is_adapter = decoder.adapter is not None and not options.lora_merge
    if decoder.is_encoder:
        merge_adapter(decoder, before)
        keeps_modules = masked_lm.has_modules(options.model)
        path = folder if keeps_modules else bare
        masked_lm.save_trained(decoder.encoder, path, options, stored=decoder.stored)
    elif is_adapter:
        save_adapter(decoder, bare, os.path.join(folder, BASE))
    else:
        merge_adapter(decoder, before)
        save_encoder(decoder, bare)
    if not os.path.exists(os.path.join(folder, masked_lm.MODULES)):
        decoder.tokenizer.save_pretrained(bare)
        add_pooling(bare, folder, options)
        shutil.rmtree(bare)
    model = load_and_compare(folder, before, options, stored=decoder.stored)
    if is_adapter:
        set_base(folder, os.path.join(os.path.abspath(output), BASE))
    return model


def save_adapter(decoder: Decoder, folder: str, base: str) -> None:
    """Write the adapter to one folder and its bidirectional base to another."""
    assert decoder.adapter is not None
    decoder.adapter.save_pretrained(folder)
    unload = decoder.adapter.unload  # by peft's __getattr__: a method of the tuner inside
    unload()
    save_encoder(decoder, base)
    set_base(folder, base)


def merge_adapter(decoder: Decoder, before: torch.Tensor) -> None:
    """Add the adapter, where there is one, to the weights. Raises InputError if states change."""
    if decoder.adapter is None:
        return
    merge = decoder.adapter.merge_and_unload
    merge()
    if attention.distance(probe_states(decoder.network), before) > MERGE_TOLERANCE:
        raise InputError(
            "the merged model gives other states than the model with adapters",
            "use --no-lora-merge",
        )


def save_encoder(decoder: Decoder, folder: str) -> None:
    """The decoder without its head, in the number type of its checkpoint."""
    encoder: Any = decoder.encoder
    encoder.to(decoder.stored).save_pretrained(folder)


def set_base(folder: str, base: str) -> None:
    """Write the path of the base model into an adapter's configuration."""
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["base_model_name_or_path"] = base
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2, sort_keys=True)


def add_pooling(bare: str, folder: str, options: Options) -> None:
    """Transformer and pooling as sentence-transformers saves them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    trust = {"trust_remote_code": options.trust_remote_code}
    transformer = Transformer(
        bare, model_kwargs={"dtype": "auto", **trust}, processor_kwargs=trust, config_kwargs=trust
    )
    transformer.max_seq_length = options.length
    mode = POOLINGS[options.pooling or "mean"].mode
    pooling = Pooling(transformer.get_embedding_dimension(), mode)
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    leave_out_chat_template(model)  # it was trained on plain texts
    model.save_pretrained(folder, create_model_card=False)


def needs_remote_code(folder: str) -> bool:
    """Is the model's class defined in the folder's own Python, which runs only if it is trusted?"""
    for path in (folder, os.path.join(folder, BASE)):
        config = read_json(os.path.join(path, "config.json")) or {}
        if "auto_map" in config:
            return True
    return False


def load_and_compare(
    folder: str, before: torch.Tensor, options: Options, *, stored: torch.dtype
) -> SentenceTransformer:
    """The folder as anyone loads it. Raises InputError where its states are not those in memory.

    stored: number type of the weights.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        folder,
        device="cpu",
        trust_remote_code=options.trust_remote_code,
        model_kwargs={"use_safetensors": True, "dtype": "auto"},
    )
    transformer: Any = model[0]
    network: PreTrainedModel = transformer.model
    attention.check(network)
    tolerance = 1e-3 if stored == torch.float32 else 5e-2
    if attention.distance(states_in_float32(network), before) > tolerance:
        raise InputError(
            "the saved model gives other states than the trained one",
            "report this; the checkpoints are in the .run folder",
        )
    return model


def states_in_float32(network: PreTrainedModel) -> torch.Tensor:
    """States of the probe, (tokens, width), by the weights as they are stored.

    Products in bfloat16 would move the states of a deep decoder further than its rounded weights.
    """
    stored = [parameter.dtype for parameter in network.parameters()]
    module: torch.nn.Module = network
    module.to(torch.float32)
    states = probe_states(network)
    for parameter, dtype in zip(network.parameters(), stored):
        parameter.data = parameter.data.to(dtype)
    return states


def probe_states(network: PreTrainedModel) -> torch.Tensor:
    """States of the probe, (tokens, width)."""
    return attention.states_of_text(network, attention.probe_ids(network))
