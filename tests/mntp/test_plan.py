"""Blocks and masks: no piece is lost or repeated, and nothing depends on the neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bare_models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.report import Report
from mntp.block_plan import BlockPlan, pack
from mntp.masking import TokenMasking
from mntp.token_store import TokenPieces, tokenize_to_disk

SPECIAL = np.array([0, 1, 2])


def masking(
    probability: float = 0.2, replaced: tuple[float, float] = (0.8, 0.1), seed: int = 0
) -> TokenMasking:
    return TokenMasking(
        probability=probability,
        replaced=replaced,
        mask_id=99,
        vocabulary=300,
        special=SPECIAL,
        seed=seed,
    )


def block_plan(
    sizes: Any, *, batch: int, seed: int = 0, steps: int = 9, packed: bool = True
) -> Any:
    return BlockPlan(
        sizes=np.array(sizes), length=16, batch=batch, seed=seed, steps=steps, packed=packed
    )


@given(st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_packing_keeps_every_piece_once_and_no_block_overflows(sizes: list[int]) -> None:
    blocks = pack(list(range(len(sizes))), sizes, 16)
    assert sorted(number for block in blocks for number in block) == list(range(len(sizes)))
    filled = [sum(sizes[number] for number in block) for block in blocks]
    assert max(filled) <= 16
    # Best fit leaves no two blocks that would have gone into one.
    assert len(filled) == 1 or sum(sorted(filled)[:2]) > 16


@given(st.lists(st.integers(1, 16), min_size=1, max_size=40), st.integers(1, 5), st.booleans())
def test_an_epoch_holds_each_piece_once_and_the_plan_counts_it(
    sizes: list[int], batch: int, packed: bool
) -> None:
    plan = block_plan(sizes, batch=batch, seed=3, packed=packed).for_epochs(2)
    assert (plan.piece_counts() == 2).all()
    pieces = [piece for step in plan for _, block in step for piece in block]
    assert sorted(pieces) == sorted([*range(len(sizes))] * 2)
    assert len(list(plan)) == plan.steps
    one_step = block_plan(sizes, batch=batch, seed=3, steps=1, packed=packed)
    assert one_step.piece_counts().sum() == sum(len(block) for _, block in next(iter(one_step)))


def test_the_order_changes_with_epoch_and_seed_and_not_otherwise() -> None:
    sizes = np.arange(1, 41) % 16 + 1
    one, other = block_plan(sizes, batch=4), block_plan(sizes, batch=4, seed=1)
    assert one.blocks(0) == one.blocks(0) != one.blocks(1)
    assert one.blocks(0) != other.blocks(0)


@given(st.lists(st.integers(0, 298), min_size=2, max_size=50), st.integers(0, 10**6))
def test_special_tokens_and_the_first_one_are_never_masked(ids: list[int], first: int) -> None:
    whole = np.array(ids)
    for replaced in ((0.8, 0.1), (1.0, 0.0)):
        out, target = masking(1.0, replaced).apply(whole, position=first, epoch=0)
        assert (target == ~np.isin(whole, SPECIAL) & (np.arange(len(ids)) > 0)).all()
        assert (out[~target] == whole[~target]).all()
        assert not np.isin(out[target], SPECIAL).any()


def test_the_fractions_of_masked_tokens_are_those_of_the_options() -> None:
    whole = np.full(200_001, 50)
    out, target = masking(0.3).apply(whole, position=0, epoch=0)
    assert target.mean() == pytest.approx(0.3, abs=0.005)
    masked = out[target]
    assert (masked == 99).mean() == pytest.approx(
        0.8 + 0.1 * 4 / 300, abs=0.005
    )  # of the drawn, 99 itself and three special ones
    assert (masked == 50).mean() == pytest.approx(0.1 + 0.1 / 300, abs=0.005)
    every, _ = masking(0.3, (1.0, 0.0)).apply(whole, position=0, epoch=0)
    assert (every[target] == 99).all()


def test_a_token_is_masked_alike_wherever_its_piece_begins_and_anew_each_epoch() -> None:
    whole = np.arange(100, 180)
    _, target = masking(0.5).apply(whole, position=1000, epoch=0)
    _, tail = masking(0.5).apply(whole[30:], position=1030, epoch=0)
    assert (target[31:] == tail[1:]).all()
    _, later = masking(0.5).apply(whole, position=1000, epoch=1)
    _, seeded = masking(0.5, seed=1).apply(whole, position=1000, epoch=0)
    assert (later != target).any() and (seeded != target).any()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return bare_models.tokenizer()


TEXTS = [
    "def f(x):\n    return x\n",
    "\u5929\u6c14\u5f88\u597d\u3002" * 40,
    "   ",
    "a",
    "tab\there  \n\n",
]


@pytest.mark.parametrize("length", [8, 16, 512])
def test_texts_are_cut_by_tokens_alone_and_no_token_is_lost(
    tokenizer: Any, tmp_path: Path, length: int
) -> None:
    """Newlines, indentation and Chinese survive; the blank text is counted."""
    report = Report("test")
    path = str(tmp_path / "t.arrow")
    _, rows = tokenize_to_disk([[[text] for text in TEXTS]], tokenizer, path, report=report)
    pieces = TokenPieces(path, tokenizer, length)
    assert rows == 4 and report.dropped == {"without text": 1}
    assert max(pieces.sizes) <= length
    assert [len(pieces[number]) for number in range(len(pieces))] == pieces.sizes.tolist()
    for row, text in enumerate(TEXTS):
        ids = [
            int(token) for number in np.flatnonzero(pieces.rows == row) for token in pieces[number]
        ]
        assert tokenizer.decode(ids) == (text if text.strip() else "")


def test_special_tokens_of_a_text_are_around_every_piece(tokenizer: Any, tmp_path: Path) -> None:
    from tokenizers import processors

    framed = bare_models.tokenizer()
    framed.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    path = str(tmp_path / "t.arrow")
    tokenize_to_disk([[["abcdefghij", "k"]]], framed, path, report=Report("test"))
    pieces = TokenPieces(path, framed, 6)
    assert [framed.decode(pieces[number]) for number in range(4)] == [
        "<s>abcd</s>",
        "<s>efgh</s>",
        "<s>ij</s>",
        "<s>k</s>",
    ]
    assert pieces.positions.tolist() == [0, 4, 8, 10] and pieces.rows.tolist() == [0, 0, 0, 0]


def test_the_digest_is_of_texts_not_of_batches(tokenizer: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "t.arrow")
    one, same, other = (
        tokenize_to_disk(batches, tokenizer, path, report=Report("test"))[0]
        for batches in ([[["a"], ["b"]]], [[["a"]], [["b"]]], [[["a"]], [["c"]]])
    )
    assert one == same != other
