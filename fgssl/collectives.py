"""Collective operations between the processes of one run; with one process each is the identity.

This is the only module that uses torch.distributed. Each process holds a contiguous share of the global batch, in the
order of the ranks: process r of W has its images [r N / W, (r + 1) N / W).
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
"""Pattern of messages about lost connections, from gloo, which raises plain RuntimeErrors, and from torch's store."""


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """Processes of a run, as seen by one of them; all of them call every method but `share`, in the same order."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    """Device on which exchanged tensors lie."""

    @classmethod
    def joined(cls, device: torch.device) -> "World":
        """Return the world of the process group that this process has joined, or a world of one process."""
        if not dist.is_initialized():
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def share(self, length: int) -> slice:
        """Return the positions of this process among `length`, which must be a multiple of the number of processes."""
        each = length // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    # ------------------------------------------------------------------------------------ per step

    def gather(self, embeddings: Embeddings) -> Embeddings:
        """Return the embeddings (N, ...) of all processes by rank, detached, from (n, ...) of each, in one message."""
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
        """Return `flat` (P,) summed over the processes in any order, so the result is equal only up to rounding."""
        if self.size > 1 and len(flat):
            dist.all_reduce(flat)
        return flat

    def tree_sum(self, flat: Tensor) -> Tensor:
        """Return `flat` (P,) summed over 2^k processes in a balanced binary tree over their ranks.

        Together with `BalancedSum` over each process's shards, the order of additions does not depend on the number of
        processes, so 1, 2, 4 and 8 processes get the same bits (a + b = b + a to the bit). The algorithm is recursive
        halving, then doubling (Rabenseifner 2004): each process sends 2 P (W - 1) / W numbers, as many as in a ring, in
        2 log2 W messages.
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
        # Values of this process that process d needs, in the order in which d needs them.
        asked = [order[d * each : (d + 1) * each] for d in range(self.size)]
        outgoing = [one[(one >= share.start) & (one < share.stop)] - share.start for one in asked]
        sent = values[upload(np.concatenate(outgoing), values.device)].contiguous()
        senders = wanted // each  # (n,) the process that holds each wanted value
        received = torch.empty_like(sent)
        counts = np.bincount(senders, minlength=self.size).tolist()
        dist.all_to_all_single(received, sent, counts, [len(one) for one in outgoing])
        arrived_at = np.argsort(senders, kind="stable")  # place in `wanted` of each received value
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
        """Return rank 0's value on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def broadcast_tensors(self, value: Any) -> Any:
        """Return rank 0's nested dicts and lists on every process; tensors lie on the CPU and are sent one by one."""
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
        """Overwrite each process's tensors by those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dense = tensor.contiguous()
                dist.broadcast(dense, src=0)
                tensor.copy_(dense)

    def share_patience(self) -> None:
        """Give all process groups that a library has made the timeout of this one.

        torch gives each of them 30 minutes otherwise, whatever the run's setting is.
        """
        if self.size > 1:
            patience = dist.distributed_c10d._get_default_group()._get_backend(self.device).options._timeout
            for group in dist.distributed_c10d._world.pg_map:
                group._get_backend(self.device)._set_default_timeout(patience)


def leave() -> None:
    """Close the connections of this process to the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def peer_lost(error: BaseException, world: World) -> PeerLostError | None:
    """Return the error to report if another process has ended or does not answer, None for other errors."""
    if world.size == 1 or not _tells_of_others(error):
        return None
    return PeerLostError(
        f"process {world.rank} of {world.size} lost contact with the others: one of them ended, or the network between "
        f"them failed for longer than resources.collective_timeout_s ({str(error).strip()})"
    )


def peers_missed(error: BaseException, processes: Processes) -> PeerLostError | None:
    """Return the error to report if the processes did not find each other at the start, None for other errors."""
    if processes.world_size == 1 or not _tells_of_others(error):
        return None
    return PeerLostError(
        f"process {processes.rank} of {processes.world_size} did not find the others within "
        f"resources.collective_timeout_s ({str(error).strip()}). Check that all have started, and that every node "
        "reaches MASTER_ADDR and the others. If a node's own name does not resolve to its address, export "
        "GLOO_SOCKET_IFNAME (on GPUs NCCL_SOCKET_IFNAME) on every node: the interface by which the others reach it "
        "(`ip -brief address` lists them)"
    )


def _tells_of_others(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(_LOST.search(str(error))))


def _exchanged(sent: Tensor, partner: int) -> Tensor:
    """Send a tensor to `partner`, and return the tensor of the same shape that it sends."""
    received = torch.empty_like(sent)
    both = [dist.P2POp(dist.isend, sent.contiguous(), partner), dist.P2POp(dist.irecv, received, partner)]
    for work in dist.batch_isend_irecv(both):
        work.wait()
    return received
