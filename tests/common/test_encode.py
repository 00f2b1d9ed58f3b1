"""The encoder: the vectors of SentenceTransformer.encode, each text once, in any batch, resumed after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.report import Report
from fletching.text import text_hash

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

LONG = (
    "why does the glacier move and the tide follow the moon " * 8
)  # more than the model's 64 tokens


@pytest.fixture(scope="module")
def texts() -> list[str]:
    from conftest import SUBJECTS

    pairs = [text for pair in SUBJECTS.values() for text in pair]
    return [
        *pairs,
        "",
        " ",
        "猫 🐈",
        "Ünïcode",
        LONG,
        "a",
        *(f"{text} {i}" for i, text in enumerate(pairs)),
    ]


@pytest.fixture
def encoder(model) -> Callable:
    """encoder(output=..., batch_tokens=...): an Encoder in fp32 on one CPU, unless told otherwise."""
    from fletching.encode import Encoder

    def make(report: Report | None = None, **options):
        settings = {"model": model, "dtype": "float32", "device": "cpu"} | options
        output = settings.pop("output", None)
        chosen = EncodingOptions(**settings)
        if output:
            chosen = _with_output(chosen, output)
        return Encoder(chosen, report or Report("t", quiet=True))

    return make


def _with_output(options: EncodingOptions, output: str) -> EncodingOptions:
    from dataclasses import dataclass, fields

    from fletching.options import OutputOptions

    @dataclass(frozen=True, kw_only=True)
    class Both(OutputOptions, EncodingOptions):
        pass

    return Both(
        output=output, **{field.name: getattr(options, field.name) for field in fields(options)}
    )


def reference(model: str, texts: list[str], prompt: str | None = None) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model, device="cpu").encode(
        texts, prompt=prompt, normalize_embeddings=True, batch_size=4
    )


def count_forwards(monkeypatch) -> list[int]:
    """The number of texts in each forward pass from here on."""
    from fletching.encode.forward_pass import ForwardPass

    seen: list[int] = []
    forward = ForwardPass.vectors

    def counted(self, device, rows, *rest):
        seen.append(len(rows))
        return forward(self, device, rows, *rest)

    monkeypatch.setattr(ForwardPass, "vectors", counted)
    return seen


def test_the_vectors_are_those_of_sentence_transformers(encoder, model, texts):
    with encoder() as ours:
        vectors = ours.encode(texts, "document")
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), 32)
    assert np.abs(vectors - reference(model, texts)).max() < 1e-6
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_padded_batches_give_what_packed_ones_give(encoder, model, texts, monkeypatch):
    from fletching.encode import padding_free

    monkeypatch.setattr(padding_free, "prepare", lambda *_: None)
    with encoder() as ours:
        assert ours.forward_pass.first_position is None
        vectors = ours.encode(texts, "query")
    assert np.abs(vectors - reference(model, texts)).max() < 1e-6


def test_a_batch_of_one_gives_what_a_batch_of_many_gives(encoder, texts):
    with encoder(batch_tokens=1) as one, encoder(batch_tokens=100_000) as many:
        assert np.abs(one.encode(texts, "query") - many.encode(texts, "query")).max() < 1e-6


def test_two_devices_give_what_one_gives(encoder, texts):
    with encoder(batch_tokens=64) as one, encoder(batch_tokens=64, device="cpu,cpu") as two:
        assert len(two.forward_pass.replicas) == 2
        np.testing.assert_array_equal(one.encode(texts, "query"), two.encode(texts, "query"))


def test_no_texts_are_no_vectors(encoder):
    with encoder() as ours:
        assert ours.encode([], "query").shape == (0, 32)


def test_equal_texts_are_encoded_once(encoder, texts, monkeypatch):
    seen = count_forwards(monkeypatch)
    with encoder() as ours:
        vectors = ours.encode(texts * 3, "query")
    assert sum(seen) == len(set(texts))
    np.testing.assert_array_equal(vectors[: len(texts)], vectors[len(texts) : 2 * len(texts)])


def test_the_order_of_the_texts_does_not_matter(encoder, texts):
    with encoder() as ours:
        there, back = ours.encode(texts, "query"), ours.encode(texts[::-1], "query")[::-1]
    assert np.abs(there - back).max() < 1e-6


# --- prompts and lengths -------------------------------------------------------------------------


def test_prompts_of_options_stand_before_the_texts_of_their_role(encoder, model, texts):
    with encoder(query_prompt="query: ", doc_prompt="passage: ") as ours:
        assert np.abs(ours.encode(texts, "query") - reference(model, texts, "query: ")).max() < 1e-6
        assert (
            np.abs(ours.encode(texts, "document") - reference(model, texts, "passage: ")).max()
            < 1e-6
        )


def test_each_row_may_have_a_prompt_and_none_stands_for_the_models(encoder, model):
    with encoder() as ours:
        vectors = ours.encode(["owl", "owl", "owl"], "query", ["bread: ", None, "bread: "])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert (
        np.abs(
            vectors[:2]
            - np.concatenate([reference(model, ["owl"], "bread: "), reference(model, ["owl"])])
        ).max()
        < 1e-6
    )


def test_prompts_saved_in_the_model_are_used_and_a_clash_with_the_data_is_refused(
    encoder, tmp_path
):
    from conftest import build_model

    saved = build_model(tmp_path / "prompted", prompts={"query": "query: ", "passage": "passage: "})
    with encoder(model=saved) as ours:
        assert ours.prompts == {"query": "query: ", "document": "passage: "}
        assert np.abs(ours.encode(["owl"], "query") - reference(saved, ["query: owl"])).max() < 1e-6
        ours.encode(["owl"], "query", ["query: "])
        with pytest.raises(
            InputError,
            match=r"the data asks for the query prompt 'other: ', the model for 'query: '",
        ):
            ours.encode(["owl"], "query", ["other: "])
    with (
        encoder(model=saved, query_prompt="mine: ") as ours,
        pytest.raises(InputError, match="--query-prompt for 'mine: '"),
    ):
        ours.encode(["owl"], "query", ["other: "])
    with encoder(model=saved, query_prompt="") as ours:
        assert np.abs(ours.encode(["owl"], "query") - reference(saved, ["owl"], "")).max() < 1e-6


def test_texts_are_cut_at_the_length_of_their_role_and_counted(encoder, capsys):
    report = Report("t")
    with encoder(report, query_length=6) as ours:
        cut, whole = ours.encode([LONG], "query"), ours.encode(["why does the glacier"], "query")
        ours.encode([LONG, "owl", "bread"], "document")
    assert np.abs(cut - whole).max() < 1e-6
    assert report.notes == [
        "1 query texts (50.0%) cut after 6 tokens",
        "1 document texts (33.3%) cut after 64 tokens",
    ]


def test_a_length_beyond_the_models_positions_is_wrong_usage(encoder):
    with pytest.raises(UsageError, match="--doc-length 65 is above the 64 positions of the model"):
        encoder(doc_length=65)


# --- cache ---------------------------------------------------------------------------------------


def test_a_second_run_with_a_cache_does_no_forward_and_gives_the_same_bits(
    encoder, texts, tmp_path, monkeypatch
):
    with encoder(cache=str(tmp_path / "cache")) as first:
        before = first.encode(texts, "query")
    seen = count_forwards(monkeypatch)
    with encoder(cache=str(tmp_path / "cache")) as second:
        np.testing.assert_array_equal(second.encode(texts, "query"), before)
        np.testing.assert_array_equal(second.encode(texts, "document"), before)
    assert seen == []
    with encoder(cache=str(tmp_path / "cache"), query_prompt="p: ") as other:
        other.encode(texts[:3], "query")
    with encoder(cache=str(tmp_path / "cache"), doc_length=9) as shorter:
        shorter.encode(texts[:3], "document")
    assert sum(seen) == 6


def test_the_shards_of_a_cache_are_files_of_vectors_with_hashes_of_prompt_and_text(
    encoder, tmp_path
):
    from fletching.io import Reader

    with encoder(cache=str(tmp_path), query_prompt="p: ") as ours:
        vectors = ours.encode(["owl", "bread"], "query")
    shards = [str(path) for path in tmp_path.rglob("*.arrow")]
    rows = Reader(Report("t"), shards, "vectors").read_all().to_pylist()
    found = {row["text_hash"]: row["vector"] for row in rows}
    assert set(found) == {text_hash("p: owl"), text_hash("p: bread")}
    np.testing.assert_array_equal(np.array(found[text_hash("p: owl")], np.float32), vectors[0])


def test_a_cache_beside_the_output_goes_on_success_and_stays_on_failure(encoder, tmp_path):
    out = str(tmp_path / "out.parquet")
    with pytest.raises(ZeroDivisionError), encoder(output=out) as ours:
        ours.encode(["owl"], "query")
        raise ZeroDivisionError
    assert list(Path(out + ".cache").rglob("*.arrow"))
    with encoder(output=out) as ours:
        ours.encode(["owl"], "query")
    assert os.listdir(tmp_path) == []


def test_a_damaged_shard_is_refused_not_used(encoder, tmp_path):
    with encoder(cache=str(tmp_path)) as ours:
        ours.encode(["owl", "bread", "tide"], "query")
    shard = next(tmp_path.rglob("*.arrow"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 64
    shard.write_bytes(data)
    with pytest.raises(InputError, match="arrow"), encoder(cache=str(tmp_path)) as ours:
        ours.encode(["owl", "bread", "tide"], "query")


# Dies after so many forward passes, as a machine does: no handler runs.
KILLED = """
import os, signal, sys
from fletching.encode import Encoder, vector_cache
from fletching.encode.forward_pass import ForwardPass
from fletching.options import EncodingOptions
from fletching.report import Report
model, folder, passes = sys.argv[1:4]
vector_cache.SHARD_SECONDS = 0.0  # a shard after each forward pass
forward, passes_left = ForwardPass.vectors, [int(passes)]
def dying(self, *batch):
    passes_left[0] -= 1
    if passes_left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, *batch)
ForwardPass.vectors = dying
texts = [f"owl {i} " + "bread tide " * (i % 9) for i in range(120)]
options = EncodingOptions(
    model=model, dtype="float32", device="cpu", batch_tokens=200, cache=folder
)
with Encoder(options, Report("t", quiet=True)) as encoder:
    encoder.encode(texts, "query")
"""


def test_a_killed_run_resumes_where_it_was_and_gives_the_same_bits(
    encoder, model, tmp_path, monkeypatch
):
    texts = [f"owl {i} " + "bread tide " * (i % 9) for i in range(120)]
    passes = count_forwards(monkeypatch)
    with encoder(batch_tokens=200) as uninterrupted:
        expected = uninterrupted.encode(texts, "query")
    folder, batches = str(tmp_path / "cache"), len(passes)
    line = [sys.executable, "-c", KILLED, model, folder, str(batches - 4)]
    import torch

    # The same bits are promised for the same threads, which another test may have set here.
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(line, capture_output=True, timeout=120, check=False, env=env)
    assert killed.returncode == -signal.SIGKILL
    passes.clear()
    with encoder(batch_tokens=200, cache=folder) as resumed:
        np.testing.assert_array_equal(resumed.encode(texts, "query"), expected)
    assert 4 <= len(passes) <= 5


# --- the model -----------------------------------------------------------------------------------


def test_the_fingerprint_is_of_the_content_and_not_of_the_folder(encoder, model, tmp_path):
    from conftest import build_model

    from fletching.encode import model as models

    def of(path) -> str:
        return models.fingerprint(models.load(str(path)))

    copy = shutil.copytree(model, tmp_path / "another-name")
    first = of(model)
    assert of(copy) == first
    settings = copy / "tokenizer_config.json"
    assert '"do_lower_case": true' in settings.read_text()
    settings.write_text(
        settings.read_text().replace('"do_lower_case": true', '"do_lower_case": false')
    )
    pooled = shutil.copytree(model, tmp_path / "cls")
    pooling = pooled / "1_Pooling" / "config.json"
    assert '"mean"' in pooling.read_text()
    pooling.write_text(pooling.read_text().replace('"mean"', '"cls"'))
    other = build_model(tmp_path / "other", seed=1)
    assert len({first, of(copy), of(pooled), of(other)}) == 4


def test_the_fingerprint_is_that_of_the_model_as_it_is_on_disk(encoder, model, texts):
    """Whatever faster layers the encoder puts into it."""
    from fletching.encode import model as models

    with encoder() as ours:
        ours.encode(texts, "query")
        assert ours.settings["fingerprint"] == models.fingerprint(models.load(model))


def test_a_vector_that_is_not_finite_is_refused_with_its_text(encoder, model):
    import torch

    with encoder() as ours:
        token = ours.model[0].tokenizer.convert_tokens_to_ids("owl")
        with torch.no_grad():
            ours.model[0].auto_model.embeddings.word_embeddings.weight[token] = float("nan")
        with pytest.raises(InputError, match="no finite vector for 'the owl'"):
            ours.encode(["bread", "the owl", "tide"], "query")


def test_out_of_memory_halves_the_batch_and_goes_on(encoder, texts, monkeypatch):
    import torch

    with encoder() as ours:
        expected = ours.encode(texts, "query")
        network = ours.forward_pass.replicas[0]
        forward = network.forward

        def small(features, **kwargs):
            if len(features.get("input_ids", [])) > 3 or features["input_ids"].numel() > 200:
                raise torch.OutOfMemoryError("too much")
            return forward(features, **kwargs)

        monkeypatch.setattr(network, "forward", small)
        assert np.abs(ours.encode(texts, "query") - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no-folder", "is no folder"),
        ("no/such/folder", "is no folder"),
        ("no-such-model-here", "cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_by_name(encoder, name, message):
    with pytest.raises(InputError, match=message) as refused:
        encoder(model=name)
    assert name in refused.value.what


def test_weights_that_are_no_safetensors_are_refused(encoder, model, tmp_path):
    import torch

    pickled = shutil.copytree(model, tmp_path / "pickled")
    torch.save({}, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        encoder(model=str(pickled))


def test_a_device_that_is_not_there_is_wrong_usage(encoder):
    with pytest.raises(UsageError, match="--device cuda:9 cannot be used"):
        encoder(device="cuda:9")


def test_bfloat16_stays_near_float32(encoder, texts):
    with encoder() as full, encoder(dtype="bfloat16") as half:
        cosines = (full.encode(texts, "query") * half.encode(texts, "query")).sum(1)
    assert cosines.min() > 0.99
