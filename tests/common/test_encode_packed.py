"""Padding-free batches, the cache, memory-mapped vectors and the reranker against sentence-transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import conftest
from pairwise import build_cross_encoder

from fletching.encode import Encoder, memmap_buffer, padding_free
from fletching.encode.reranker import Reranker
from fletching.errors import InputError, UsageError
from fletching.options import EncodingOptions
from fletching.report import Report

pytestmark = pytest.mark.slow  # as a whole: each test loads models or starts many commands

TEXTS = [
    f"{word} " * (1 + 7 * i % 40) + "of honey"
    for i, word in enumerate(
        "owl bread tide iron violin glacier chess volcano paper opera when how what".split() * 4
    )
] + ["", "x", "☃"]


@dataclass(frozen=True, kw_only=True)
class Options(EncodingOptions):
    output: str | None = None


def encoder_of(folder: str, **options) -> Encoder:
    return Encoder(Options(model=folder, **options), Report("test", quiet=True))


def by_sentence_transformers(folder: str, texts=TEXTS) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu").encode(texts, normalize_embeddings=True)


@pytest.mark.parametrize("budget", [16, 200, 100_000])
def test_packed_vectors_in_float32_are_those_of_sentence_transformers(model, budget):
    encoder = encoder_of(model, dtype="float32", batch_tokens=budget)
    assert encoder.forward_pass.first_position == 0
    assert np.abs(encoder.encode(TEXTS, "document") - by_sentence_transformers(model)).max() < 1e-5


def test_packed_vectors_in_bfloat16_point_the_same_way(model):
    found = encoder_of(model, dtype="bfloat16").encode(TEXTS, "document")
    assert (found * by_sentence_transformers(model)).sum(
        1
    ).min() > 0.999  # a tiny random model; a real one is above 0.9999


def test_packed_batches_come_in_few_sizes():
    """A kernel is made and kept for each size: memory grew by 0.1 MB with every batch."""
    batches = [
        [{"input_ids": [5] * length}] * texts for length in range(1, 30) for texts in (1, 7, 20)
    ]
    made = [padding_free.collate(batch, 1) for batch in batches]
    assert {each["input_ids"].shape[1] % padding_free.FILL_TO for each in made} == {0}
    for batch, each in zip(batches, made):
        lengths = each["cu_seq_lens_q"].diff().tolist()
        assert lengths[:-1] == [len(row["input_ids"]) for row in batch]  # the last is filler
        assert (
            sum(lengths)
            == each["input_ids"].shape[1]
            == sum(texts * length for texts, length in each["runs"])
        )
        assert int(each["position_ids"].max()) <= len(
            batch[0]["input_ids"]
        )  # filler needs no position of its own


def test_an_architecture_that_is_not_known_is_padded_with_equal_results(model, monkeypatch):
    packed = encoder_of(model, dtype="float32").encode(TEXTS, "document")
    monkeypatch.setattr(padding_free, "ARCHITECTURES", {})
    plain = encoder_of(model, dtype="float32")
    assert plain.forward_pass.first_position is None
    assert np.abs(plain.encode(TEXTS, "document") - packed).max() < 1e-5


def roberta(folder: Path, pooling: str) -> str:
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    conftest.build_model(folder / "bert")
    words = transformers.AutoTokenizer.from_pretrained(folder / "bert")
    settings = dict(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=0,
        type_vocab_size=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = transformers.RobertaModel(
            transformers.RobertaConfig(vocab_size=len(words), **settings)
        )
    network.save_pretrained(folder / "plain")
    words.save_pretrained(folder / "plain")
    SentenceTransformer(
        modules=[Transformer(str(folder / "plain")), Pooling(32, pooling_mode=pooling)],
        device="cpu",
    ).save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_positions_behind_the_padding_id_and_every_pooling_are_packed_too(tmp_path, pooling):
    folder = roberta(tmp_path, pooling)
    encoder = encoder_of(folder, dtype="float32")
    assert encoder.forward_pass.first_position == 1
    assert np.abs(encoder.encode(TEXTS, "document") - by_sentence_transformers(folder)).max() < 1e-5


def test_a_text_has_the_same_vector_whatever_stands_beside_it(model):
    encoder = encoder_of(model, dtype="float32")
    together = encoder.encode(TEXTS, "document")
    alone = np.concatenate([encoder.encode([text], "document") for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6


def test_equal_texts_are_encoded_once(model, monkeypatch):
    encoder = encoder_of(model)
    passed = []
    forward = encoder.forward_pass.vectors
    monkeypatch.setattr(
        encoder.forward_pass,
        "vectors",
        lambda device, rows, *rest: passed.extend(rows) or forward(device, rows, *rest),
    )
    assert (np.diff(encoder.encode(["owl", "owl", "owl"], "query"), axis=0) == 0).all() and len(
        passed
    ) == 1


def test_dots_do_not_depend_on_what_stands_beside_them(monkeypatch):
    left, right = (
        np.random.default_rng(i).normal(size=(50, 37)).astype(np.float32) for i in (0, 1)
    )
    numbers = np.random.default_rng(2).integers(0, 50, (50, 9))
    block = memmap_buffer.block_dot(left, right, numbers)
    one_by_one = np.array(
        [
            [
                memmap_buffer.block_dot(left[i : i + 1], right, numbers[i : i + 1, j : j + 1])[0, 0]
                for j in range(9)
            ]
            for i in range(50)
        ]
    )
    assert (block == one_by_one).all()
    assert np.allclose(
        block,
        (left.astype(float) @ right.T.astype(float))[np.arange(50)[:, None], numbers],
        atol=1e-5,
    )
    pairs = memmap_buffer.pairwise_dot(left, np.arange(50), right, numbers[:, 0])
    assert (
        pairs
        == [
            memmap_buffer.pairwise_dot(left, np.array([i]), right, numbers[i, :1])[0]
            for i in range(50)
        ]
    ).all()
    monkeypatch.setattr(memmap_buffer, "CHUNK_BYTES", 1000)
    assert (memmap_buffer.block_dot(left, right, numbers) == block).all()


def test_a_number_below_zero_has_no_product():
    units = np.eye(3, dtype=np.float32)
    assert memmap_buffer.block_dot(
        units, units, np.array([[0, -1], [1, -1], [-1, 2]])
    ).tolist() == [
        [1, -np.inf],
        [1, -np.inf],
        [-np.inf, 1],
    ]


def test_room_holds_what_is_put_there_after_it_was_forgotten():
    held = memmap_buffer.allocate(1000, 16)
    held[:] = np.arange(16000).reshape(1000, 16)
    memmap_buffer.release_pages(held)
    assert (held.ravel() == np.arange(16000)).all()
    assert memmap_buffer.allocate(0, 16).shape == (0, 16)


def test_blocks_are_stored_end_to_end():
    blocks = [np.full((2, 3), 1, np.float32), np.full((1, 3), 2, np.float32)]
    assert memmap_buffer.store(iter(blocks), 3).tolist() == np.concatenate(blocks).tolist()
    assert memmap_buffer.store(iter([]), 3).shape == (0, 3)


# --- the options of every tool that encodes ----------------------------------------------------------


def test_texts_are_cut_at_the_length_asked_for_and_that_is_counted(model, capsys):
    with Encoder(Options(model=model, query_length=4, doc_length=6), Report("test")) as encoder:
        assert (
            encoder.encode(["owl owl bread", "owl owl"], "query")[0]
            == encoder.encode(["owl owl"], "query")[0]
        ).all()
        encoder.encode(["owl " * 9], "document")
    told = capsys.readouterr().err
    assert (
        "1 query texts (33.3%) cut after 4 tokens" in told
        and "1 document texts (100.0%) cut after 6 tokens" in told
    )


def test_prompts_come_from_the_options_the_model_or_the_row(tmp_path):
    folder = conftest.build_model(tmp_path / "model", prompts={"query": "how ", "document": "why "})
    plain = encoder_of(folder, query_prompt="", doc_prompt="", dtype="float32")
    own = encoder_of(folder, dtype="float32")
    assert np.allclose(own.encode(["owl"], "query"), plain.encode(["how owl"], "query"), atol=1e-6)
    assert np.allclose(
        own.encode(["owl"], "document"), plain.encode(["why owl"], "document"), atol=1e-6
    )
    assert np.allclose(
        plain.encode(["owl"], "query", ["when "]), plain.encode(["when owl"], "query"), atol=1e-6
    )
    with pytest.raises(InputError, match="the data asks for the query prompt 'when '"):
        own.encode(["owl"], "query", ["when "])


def test_a_cache_is_read_by_the_next_run_and_not_under_another_length_or_type(
    model, tmp_path, monkeypatch
):
    folder = str(tmp_path / "cache")
    with encoder_of(model, cache=folder) as encoder:
        first = encoder.encode(TEXTS, "document")
    with encoder_of(model, cache=folder) as encoder:
        monkeypatch.setattr(encoder.forward_pass, "vectors", None)  # nothing is left to encode
        assert (encoder.encode(TEXTS, "document") == first).all()
    for other in ({"doc_length": 9}, {"dtype": "float16"}):
        with encoder_of(model, cache=folder, **other) as encoder:
            monkeypatch.setattr(encoder.forward_pass, "vectors", None)
            with pytest.raises(TypeError):
                encoder.encode(TEXTS, "document")


def test_a_text_keeps_its_first_vector_whether_it_was_written_or_not(model, tmp_path, monkeypatch):
    with encoder_of(model, cache=str(tmp_path / "cache")) as encoder:
        first = encoder.encode(TEXTS[:5], "document")
        assert not list((tmp_path / "cache").rglob("*.arrow"))
        monkeypatch.setattr(encoder.forward_pass, "vectors", None)
        assert (encoder.encode(TEXTS[:5], "document") == first).all()


@pytest.fixture(scope="module")
def cross_encoder(model, tmp_path_factory) -> str:
    return build_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), model)


def test_a_killed_reranker_goes_on_where_it_was_with_the_same_scores(
    cross_encoder, model, tmp_path, monkeypatch
):
    queries, texts = TEXTS[::2], TEXTS[1::2]
    pairs = (
        (queries, texts[: len(queries)])
        if len(texts) >= len(queries)
        else (queries[: len(texts)], texts)
    )
    options = Options(
        model=model, dtype="float32", batch_tokens=64, output=str(tmp_path / "o.jsonl")
    )
    with Reranker(cross_encoder, options) as reranker:
        whole = reranker.score(*pairs)
    assert not Path(f"{options.output}.cache").exists()  # it is done

    asked: list[int] = []

    def forward(self, some):
        asked.append(len(some))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return original(self, some)

    original = Reranker._forward
    monkeypatch.setattr(Reranker, "_forward", forward)
    with pytest.raises(KeyboardInterrupt), Reranker(cross_encoder, options) as reranker:
        reranker.score(*pairs)
    done = sum(asked[:3])
    asked[:] = [0] * 4
    with Reranker(cross_encoder, options) as reranker:
        assert (reranker.score(*pairs) == whole).all()
    assert sum(asked) == len(set(zip(*pairs))) - done


def test_a_device_that_is_not_there_is_a_wrong_usage(model):
    with pytest.raises(UsageError, match="--device cuda:7 cannot be used"):
        encoder_of(model, device="cuda:7")
