"""The gradient of a global batch from micro-batches (GradCache, Gao et al. 2021).

    forward_no_grad   embed all texts without keeping activations
    build_cache       the loss over all vectors, and its gradient for each vector: the cache
    forward_backward  embed each micro-batch again, under the random numbers of the first pass,
                      and send the cached gradients through it
    cache_step        the three in order

Activations of one micro-batch are in memory, the gradient is that of the whole batch. Needs
torch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

Embed = Callable[[Tensor], Tensor]  # numbers of texts (n,) -> vectors (n, D)
VectorLoss = Callable[[Tensor], tuple[Tensor, Tensor]]  # vectors (N, D) -> value, gradient (N, D)
NoSync = Callable[[], AbstractContextManager[None]]

SEEDS = 1 << 63  # of torch's generators


def count_ranks() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@dataclass(frozen=True, kw_only=True)
class RankShare:
    """The micro-batches that this rank computes.

    All ranks get the same number: forward and backward passes of sharded models are
    collectives, and DDP waits for every rank. numbers: theirs among those of all ranks.
    ends_idle: this rank had one fewer, so its last micro-batch is a text of another rank, whose
    vector and gradient count as zero.
    """

    micro_batches: list[Tensor]
    numbers: range
    ends_idle: bool = False

    @classmethod
    def of_this_rank(cls, micro_batches: Sequence[Tensor]) -> RankShare:
        """Deal the micro-batches of all ranks, in turn."""
        ranks = count_ranks()
        rank = dist.get_rank() if ranks > 1 else 0
        dealt = list(micro_batches[rank::ranks])
        each = -(-len(micro_batches) // ranks)
        ends_idle = len(dealt) < each
        if ends_idle:
            dealt.append(micro_batches[0][:1])
        numbers = range(rank, rank + each * ranks, ranks)
        return cls(micro_batches=dealt, numbers=numbers, ends_idle=ends_idle)

    def __len__(self) -> int:
        return len(self.micro_batches)

    def gather(self, pieces: Sequence[Tensor], texts: int) -> Tensor:
        """Vectors (texts, D) of all ranks, on every rank, from those of this rank's
        micro-batches.
        """
        vectors = pieces[0].new_zeros(texts, pieces[0].shape[1])
        busy = len(self) - self.ends_idle
        for micro_batch, piece in zip(self.micro_batches[:busy], pieces):
            vectors[micro_batch] = piece
        if count_ranks() > 1:
            dist.all_reduce(vectors)  # each row is zero on all ranks but one
        return vectors

    def scatter(self, gradient: Tensor) -> list[Tensor]:
        """The rows of a gradient (texts, D) that belong to each of this rank's micro-batches."""
        pieces = [gradient[micro_batch] for micro_batch in self.micro_batches]
        if self.ends_idle:
            pieces[-1] = torch.zeros_like(pieces[-1])
        return pieces


class RandomState:
    """The state of the random generators before a forward pass, to run it again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Draw the same numbers again from here."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)


class GradCache:
    """One step over the micro-batches of a global batch.

    micro_batches: all of them, on every rank. keep: the first so many keep their activations
    and need no second pass. no_sync: DDP's; passes in it stay out of the gradient reduction,
    which comes with the last one. Without it each backward pass is reduced (FSDP, where the
    memory of a whole gradient is what one cannot have). Across ranks the vectors meet in one
    collective, and each rank computes the whole loss. seed: of dropout, which then depends on
    it and on the number of a micro-batch, and not on the rank; None: torch's generator goes on.
    """

    def __init__(
        self,
        embed: Embed,
        micro_batches: Sequence[Tensor],
        *,
        device: torch.device,
        keep: int = 1,
        no_sync: NoSync | None = None,
        seed: int | None = None,
    ) -> None:
        self.embed = embed
        self.device = device
        self.seed = seed
        self.no_sync = no_sync
        self.texts = sum(map(len, micro_batches))
        self.share = RankShare.of_this_rank(micro_batches)
        self.kept = min(self._keepable(keep), len(self.share))
        self.graphs: list[Tensor] = []  # vectors of the micro-batches that are kept
        self.random_states: list[RandomState] = []  # of the others
        self.cache: list[Tensor] = []  # gradient for the vectors of each micro-batch

    def _keepable(self, keep: int) -> int:
        if not torch.is_grad_enabled():
            return 0
        if count_ranks() == 1 or len(self.share) == 1:
            return keep
        if self.no_sync is None:
            return 0
        return min(keep, len(self.share) - 1)  # DDP reduces with the pass that it saw last

    def cache_step(self, loss: VectorLoss) -> Tensor:
        """The loss, a scalar; its `backward()` leaves the gradient of the batch in the
        parameters.
        """
        self.graphs = self.forward_kept()
        pieces = [graph.detach() for graph in self.graphs] + self.forward_no_grad()
        value = self.build_cache(pieces, loss)
        if not torch.is_grad_enabled():
            return value
        result = value.detach().float().requires_grad_()
        hooked: Any = result  # torch leaves register_hook untyped
        hooked.register_hook(self.forward_backward)
        return result

    def forward_kept(self) -> list[Tensor]:
        """Vectors of the micro-batches whose activations stay in memory."""
        vectors = []
        for position in range(self.kept):
            self._seed(position)
            with self._reduced_with_others():
                vectors.append(self.embed(self.share.micro_batches[position]))
        return vectors

    def _seed(self, position: int) -> None:
        """Before the first pass of a micro-batch of this rank."""
        if self.seed is not None:
            torch.manual_seed((self.seed + self.share.numbers[position]) % SEEDS)

    @torch.no_grad()
    def forward_no_grad(self) -> list[Tensor]:
        """Vectors of all other micro-batches; the random state before each is noted."""
        vectors = []
        for position in range(self.kept, len(self.share)):
            self._seed(position)
            self.random_states.append(RandomState(self.device))
            vectors.append(self.embed(self.share.micro_batches[position]))
        return vectors

    @torch.no_grad()
    def build_cache(self, pieces: Sequence[Tensor], loss: VectorLoss) -> Tensor:
        """The loss over the vectors of all ranks; caches the gradient for those of this rank."""
        value, gradient = loss(self.share.gather(pieces, self.texts))
        # DDP and FSDP take the mean over ranks; the gradient of the batch is the sum.
        self.cache = self.share.scatter(gradient * float(count_ranks()))
        return value

    def forward_backward(self, scale: Tensor) -> None:
        """Send the cached gradients, times `scale`, through the encoder."""
        if self.graphs:
            # One by one and in the order of the others, so that the sums of gradients have the
            # same bits however many micro-batches are kept.
            for position in range(len(self.graphs)):
                graph, self.graphs[position] = self.graphs[position], torch.empty(0)
                with self._reduced_with_others():
                    torch.autograd.backward(graph, (self.cache[position] * scale).to(graph))
            self.graphs.clear()
        after = RandomState(self.device)
        for position, state in enumerate(self.random_states, self.kept):
            is_last = position == len(self.share) - 1
            with self._silent(not is_last), torch.enable_grad():
                state.restore()
                vectors = self.embed(self.share.micro_batches[position])
                gradient = (self.cache[position] * scale).to(vectors)
                torch.autograd.backward(vectors, gradient)
        after.restore()

    def _reduced_with_others(self) -> AbstractContextManager[None]:
        """Silent, unless nothing comes later whose backward pass would reduce the gradient."""
        return self._silent(len(self.share) > 1)

    def _silent(self, silent: bool) -> AbstractContextManager[None]:
        return self.no_sync() if silent and self.no_sync is not None else nullcontext()
