"""What comes out: a plain sentence-transformers folder that stays bidirectional wherever it is loaded."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import torch

from fletching.errors import InputError
from fletching.train.run_dir import read_json
from mntp import attention
from mntp.decoder import Decoder

MODES = {
    "cls": "cls",
    "mean": "mean",
    "last": "lasttoken",
    "weighted": "weightedmean",
}  # ours: sentence-transformers' names
BASE = "base"  # in the folder, where the adapter is not merged


def save(decoder: Decoder, folder: str, options: Any, place: str) -> Any:
    """Write the folder; gives the model as sentence-transformers loads it, seen to be bidirectional and equal.

    place: where the folder will stand at last. Without --lora-merge it holds the adapter beside its base, whose
    configuration says that it is not causal: an adapter over a causal base would load causal, without a word.
    """
    network = decoder.network.to("cpu").float().eval()
    before, bare = shown(network), folder + ".bare"
    alone = decoder.adapter is not None and not options.lora_merge
    if alone:
        decoder.adapter.save_pretrained(bare)
        decoder.adapter.unload()
        write(decoder, os.path.join(folder, BASE))
        point(bare, os.path.join(folder, BASE))
    else:
        if decoder.adapter is not None:
            decoder.adapter.merge_and_unload()
            if attention.distance(shown(network), before) > 1e-4:
                raise InputError(
                    "the merged model gives other states than the model with adapters",
                    "use --no-lora-merge",
                )
        write(decoder, bare)
    decoder.tokenizer.save_pretrained(bare)
    assemble(bare, folder, options)
    shutil.rmtree(bare)
    again = compare(before, folder, decoder.stored, options.trust_remote_code)
    if alone:
        point(folder, os.path.join(os.path.abspath(place), BASE))
    return again


def write(decoder: Decoder, folder: str) -> None:
    """The encoder without its head, in the number type that it came in."""
    decoder.encoder.to(decoder.stored).save_pretrained(folder)


def point(folder: str, base: str) -> None:
    """Tell an adapter where its base is."""
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config | {"base_model_name_or_path": base}, file, indent=2, sort_keys=True)


def assemble(bare: str, folder: str, options: Any) -> None:
    """Transformer and pooling as sentence-transformers saves them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    trust = {"trust_remote_code": options.trust_remote_code}
    transformer = Transformer(
        bare, model_kwargs={"dtype": "auto", **trust}, processor_kwargs=trust, config_kwargs=trust
    )
    transformer.max_seq_length = options.length
    pooling = Pooling(transformer.get_embedding_dimension(), MODES[options.pooling or "mean"])
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save_pretrained(
        folder, create_model_card=False
    )


def runs_own_code(folder: str) -> bool:
    """Whether the model's class stands in the folder's own Python, which only trust_remote_code=True lets run."""
    configs = (
        read_json(os.path.join(folder, *within, "config.json")) or {} for within in ((), (BASE,))
    )
    return any("auto_map" in config for config in configs)


def compare(before: torch.Tensor, folder: str, stored: torch.dtype, trust_remote_code: bool) -> Any:
    """Raises InputError where the folder, loaded as anyone loads it, is another model than the one in memory."""
    from sentence_transformers import SentenceTransformer

    settings = {"use_safetensors": True, "dtype": "auto"}
    again = SentenceTransformer(
        folder, device="cpu", trust_remote_code=trust_remote_code, model_kwargs=settings
    )
    attention.check(again[0].model)
    if attention.distance(shown(again[0].model), before) > (
        1e-3 if stored == torch.float32 else 5e-2
    ):
        raise InputError(
            "the saved model gives other states than the trained one",
            "report this; the checkpoints stand in the .run folder",
        )
    return again


def shown(network: Any) -> torch.Tensor:
    """States of a few tokens, (1, tokens, width)."""
    ids = attention.probe(network)
    return attention.states(network, ids, torch.ones_like(ids))
