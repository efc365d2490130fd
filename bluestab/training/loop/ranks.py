"""One run on several devices of a machine: a process for each, the batch divided among them.

Rank 0 is the process that does the run: it alone saves, reports and writes the record. The others
are started by it, wire the same run from the same config and go the same way: every rank sees every
batch and takes its part of the micro-batches, weighted by their shares; gradients are summed before
the optimizer moves. So `trainer.devices=N` is `trainer.micro_batch=batch_size/N` with the parts
side by side, equal but for the order of a sum. Losses, gradients and logits are those of all ranks
on each of them, so that all decide alike (divergence, an early end) without a message.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bluestab.core import devices
from bluestab.core.preemption import signals_blocked

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

BUCKET = 2**24  # numbers that are summed over the ranks at once
JOINING = 600.0  # seconds that the others may take to start: they import the libraries
OUT_OF_MEMORY = 12  # exit code of a rank that fewer items at once might have saved
OUTPUT_TAIL = 2**12  # bytes of a dead rank's output that are shown


class RankDied(RuntimeError):
    """A process of a run on several devices is gone."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run; by default the only one.

    rank, size          its number, from 0, and how many there are
    divides_evaluation  does each rank evaluate a part of the items? False: all of them
    """

    rank: int = 0
    size: int = 1
    divides_evaluation: bool = True

    def mine(self, parts: Sequence[tuple[float, T]]) -> list[tuple[int, float, T]]:
        """Number, share and micro-batch of those that this rank takes.

        A rank that is left without takes one with share 0: the sums wait for it.
        """
        numbered = [(index, share, part) for index, (share, part) in enumerate(parts)]
        return numbered[self.rank :: self.size] or [(0, 0.0, parts[0][1])]

    def evaluates(self, index: int, batches: int) -> bool:
        """Does this rank take this batch of an evaluation? Where there are fewer than ranks, some
        are taken twice; what arrives twice counts once."""
        return not self.divides_evaluation or index % self.size == self.rank % min(
            self.size, batches
        )

    def sum_of(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' values."""
        if self.size > 1:
            import torch.distributed as dist

            value = value.clone()
            dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every rank the sum of all ranks' gradients."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        gradients = [p.grad for p in parameters if p.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            sums = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, total in zip(bucket, sums, strict=True):
                gradient.copy_(total.view_as(gradient))

    def agree(self, parameters: Mapping[str, torch.Tensor]) -> None:
        """Raises RankDied if the ranks do not hold the same bits: something drew apart."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        digest = hashlib.sha256()
        for _, value in sorted(parameters.items()):
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        device = next(iter(parameters.values())).device
        own = torch.tensor(int.from_bytes(digest.digest()[:7], "big"), device=device)
        low, high = own.clone(), own.clone()
        dist.all_reduce(low, dist.ReduceOp.MIN)
        dist.all_reduce(high, dist.ReduceOp.MAX)
        if low != high:
            raise RankDied(
                "the weights on the devices of this run have drifted apart: something random in it "
                "is not drawn from torch's streams as they stand in a training step; "
                "say trainer.devices=1"
            )


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Tensors, in order, in lists of about `BUCKET` numbers."""
    bucket: list[torch.Tensor] = []
    numbers = 0
    for tensor in tensors:
        bucket.append(tensor)
        numbers += tensor.numel()
        if numbers >= BUCKET:
            yield bucket
            bucket, numbers = [], 0
    if bucket:
        yield bucket


# --- processes -----------------------------------------------------------------------------------


def join(folder: Path, rank: int, size: int, device: str) -> None:
    """Be one of the ranks that meet in a folder of this machine."""
    import torch
    import torch.distributed as dist

    kind = device.partition(":")[0]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    if kind == "cuda":
        torch.cuda.set_device(device)
    meeting = dist.FileStore(  # type: ignore[attr-defined]
        str(folder / "meeting"), size
    )
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo", store=meeting, rank=rank, world_size=size
    )


@contextmanager
def together(order: Mapping[str, Any], size: int, device: str) -> Iterator[Ranks]:
    """Rank 0 of a run, with the other ranks at work until the end; alone if `size` is 1.

    order  the message that starts the others: see `training/rank_process.py`

    Raises RankDied, or torch.OutOfMemoryError, if one of them did not see it through.
    """
    if size == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    with tempfile.TemporaryDirectory(prefix="bluestab-") as name:
        folder = Path(name)
        others = []
        try:
            for rank, own in list(enumerate(devices.of_ranks(device, size)))[1:]:
                message = {**order, "rank": rank, "size": size, "device": own, "folder": name}
                others.append(_start(message, folder))
            _wait_until_ready(others, folder)
            join(folder, 0, size, device)
            yield Ranks(0, size, order["divides_evaluation"])
        except Exception as error:
            if (why := _first_death(others, folder)) is not None:
                raise why from error
            raise
        finally:
            for process in others:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
            if dist.is_initialized():
                dist.destroy_process_group()


def _start(order: Mapping[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """A rank in a process of its own, which ends with this one: its standard input closes."""
    with (folder / f"{order['rank']}.txt").open("wb") as output, signals_blocked():
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "bluestab.training.rank_process"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is dead already, which is seen below
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    return process


def _wait_until_ready(others: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    end = time.monotonic() + JOINING
    while not all((folder / f"{rank}.ready").exists() for rank in range(1, len(others) + 1)):
        if any(process.poll() is not None for process in others):
            raise RankDied("a process of this run could not start")
        if time.monotonic() > end:
            raise RankDied(f"the processes of this run did not start in {JOINING:.0f} seconds")
        time.sleep(0.05)


def _first_death(others: Sequence[subprocess.Popen[bytes]], folder: Path) -> Exception | None:
    """What to raise if another rank had failed: this one only missed it."""
    import torch

    end = time.monotonic() + 2  # it may be about to end
    while time.monotonic() < end and all(process.poll() is None for process in others):
        time.sleep(0.05)
    for rank, process in enumerate(others, start=1):
        code = process.poll()
        if code:
            words = (folder / f"{rank}.txt").read_bytes()[-OUTPUT_TAIL:].decode(errors="replace")
            said = f"rank {rank} of this run ended with exit code {code}:\n{words.strip()}"
            return torch.OutOfMemoryError(said) if code == OUT_OF_MEMORY else RankDied(said)
    return None
