"""What the processes of one run exchange; for one process, the identity. The only user of torch.distributed.

Each process holds a contiguous share of the global batch, in the order of the ranks: process r of W has its images
[r N / W, (r + 1) N / W).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from fgssl.batch import Embeddings
from fgssl.errors import PeerLostError
from fgssl.processes import Processes
from fgssl.upload import upload

Object = TypeVar("Object")

_LOST = re.compile(r"gloo/|Connection (closed|reset|refused)|Broken pipe|Timed out waiting|NCCL error|Socket Timeout")
"""Messages of gloo, which raises plain RuntimeErrors, and of torch's store."""


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """All processes of a run, seen from one of them. Every method but `share` is called by all, in the same order."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    """Where tensors that are exchanged lie."""

    @classmethod
    def joined(cls, device: torch.device) -> "World":
        """Return the world of the process group that this process has joined, if it has."""
        if not dist.is_initialized():
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def share(self, length: int) -> slice:
        """Return this process's positions among `length` of all together, a multiple of the number of processes."""
        each = length // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    # ------------------------------------------------------------------------------------ per step

    def gather(self, embeddings: Embeddings) -> Embeddings:
        """Return the embeddings (N, ...) of all processes by rank, detached, from (n, ...) of each; in one message."""
        embeddings = {name: value.detach() for name, value in embeddings.items()}
        if self.size == 1:
            return embeddings
        own = [
            value.reshape(len(value), -1).contiguous().view(torch.uint8) for value in embeddings.values()
        ]  # (n, bytes)
        packed = torch.cat(own, dim=1)
        everyone = packed.new_empty(self.size * len(packed), packed.shape[1])
        dist.all_gather_into_tensor(everyone, packed)
        columns = everyone.split([part.shape[1] for part in own], dim=1)
        return {
            name: column.contiguous().view(value.dtype).reshape(len(everyone), *value.shape[1:])
            for (name, value), column in zip(embeddings.items(), columns, strict=True)
        }

    def sum(self, flat: Tensor) -> Tensor:
        """Return `flat` (P,) summed over the processes, in the network's own order: equal up to rounding."""
        if self.size > 1 and len(flat):
            dist.all_reduce(flat)
        return flat

    def tree_sum(self, flat: Tensor) -> Tensor:
        """Return `flat` (P,) summed over 2^k processes in a balanced binary tree over their ranks.

        Joined with `balanced_sum` over each process's shards, the order of additions does not depend on the number of
        processes: the same bits for 1, 2, 4, 8. Recursive halving, then doubling (Rabenseifner 2004): each process
        sends 2 P (W - 1) / W numbers, as many as a ring does, in 2 log2 W messages. a + b = b + a to the bit.
        """
        if self.size == 1 or not len(flat):
            return flat
        work = torch.nn.functional.pad(flat, (0, -len(flat) % self.size))
        partners = [self.rank ^ (1 << level) for level in range(self.size.bit_length() - 1)]
        first, last = 0, len(work)
        for partner in partners:
            middle = (first + last) // 2
            mine, other = slice(first, middle), slice(middle, last)
            if partner < self.rank:
                mine, other = other, mine
            work[mine] += _exchanged(work[other], partner)
            first, last = mine.start, mine.stop
        for partner in reversed(partners):
            length = last - first
            other = slice(last, last + length) if partner > self.rank else slice(first - length, first)
            work[other] = _exchanged(work[first:last], partner)
            first, last = min(first, other.start), max(last, other.stop)
        return work[: len(flat)]

    def shuffled(self, values: Tensor, order: NDArray[np.int64]) -> Tensor:
        """Exchange values (n, ...) of each process's share for those of its share of `order` (N,), batch positions."""
        wanted = order[self.share(len(order))]
        if self.size == 1:
            return values[upload(wanted, values.device)]
        share, each = self.share(len(order)), len(wanted)
        # What process d wants of this one, in the order in which d wants it.
        asked = [order[d * each : (d + 1) * each] for d in range(self.size)]
        outgoing = [one[(one >= share.start) & (one < share.stop)] - share.start for one in asked]
        sent = values[upload(np.concatenate(outgoing), values.device)].contiguous()
        senders = wanted // each  # (n,) who holds each wanted value
        received = torch.empty_like(sent)
        counts = np.bincount(senders, minlength=self.size).tolist()
        dist.all_to_all_single(received, sent, counts, [len(one) for one in outgoing])
        arrived_at = np.argsort(senders, kind="stable")  # of each received value, its place in `wanted`
        places = np.empty_like(arrived_at)
        places[arrived_at] = np.arange(each)
        return received[upload(places, values.device)]

    def agree_max(self, numbers: Sequence[int]) -> list[int]:
        """Return the largest of each number over the processes."""
        if self.size == 1:
            return list(numbers)
        largest = torch.tensor(numbers, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return [int(number) for number in largest.tolist()]

    # -------------------------------------------------------------------------------------- per run

    def broadcast(self, value: Object) -> Object:
        """Return rank 0's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def broadcast_tensors(self, value: Any) -> Any:
        """Return rank 0's nested dicts and lists, with tensors on the CPU, on every process; a tensor at a time."""
        if self.size == 1:
            return value
        leaves, structure = tree_flatten(value)
        held = [leaf.to("meta") if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        held, structure = self.broadcast((held, structure))
        for place, leaf in enumerate(held):
            if isinstance(leaf, Tensor):
                moving = torch.empty_like(leaf, device=self.device, memory_format=torch.contiguous_format)
                if self.rank == 0:
                    moving.copy_(leaves[place])
                dist.broadcast(moving, src=0)
                held[place] = moving.cpu()
        return tree_unflatten(held, structure)

    def broadcast_into(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite each process's tensors by rank 0's."""
        if self.size > 1:
            for tensor in tensors:
                dense = tensor.contiguous()
                dist.broadcast(dense, src=0)
                tensor.copy_(dense)

    def share_patience(self) -> None:
        """Let every group of processes that a library has made wait as long as this one: torch gives each 30 minutes,
        whatever the run asks for."""
        if self.size > 1:
            patience = dist.distributed_c10d._get_default_group()._get_backend(self.device).options._timeout
            for group in dist.distributed_c10d._world.pg_map:
                group._get_backend(self.device)._set_default_timeout(patience)


def leave() -> None:
    """Close this process's connections to the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def peer_lost(error: BaseException, world: World) -> PeerLostError | None:
    """Return the error to report where `error` only says that another process is gone or silent; None for others."""
    if world.size == 1 or not _tells_of_others(error):
        return None
    return PeerLostError(
        f"process {world.rank} of {world.size} lost contact with the others: one of them ended, or the network between "
        f"them failed for longer than resources.collective_timeout_s ({str(error).strip()})"
    )


def peers_missed(error: BaseException, processes: Processes) -> PeerLostError | None:
    """Return the error to report where `error` only says that the processes did not find each other at the start."""
    if processes.world_size == 1 or not _tells_of_others(error):
        return None
    return PeerLostError(
        f"process {processes.rank} of {processes.world_size} did not find the others within "
        f"resources.collective_timeout_s ({str(error).strip()}). Did all begin, and does every node reach MASTER_ADDR "
        "and the others? Where a node's own name does not lead to its address, export GLOO_SOCKET_IFNAME (on GPUs "
        "NCCL_SOCKET_IFNAME) on every node: the interface that the others reach it by (`ip -brief address` lists them)"
    )


def _tells_of_others(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(_LOST.search(str(error))))


def _exchanged(sent: Tensor, partner: int) -> Tensor:
    """Return what `partner` sends, which is as much as it is sent."""
    received = torch.empty_like(sent)
    both = [dist.P2POp(dist.isend, sent.contiguous(), partner), dist.P2POp(dist.irecv, received, partner)]
    for work in dist.batch_isend_irecv(both):
        work.wait()
    return received
