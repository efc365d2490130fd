"""A further rank of a run on several devices, from inside: see `loop/ranks.py`.

A line of JSON on standard input says the config, the key and the sizes of the run, which rank this
is, where the ranks meet, and the checkpoint to go on from. The process goes the way of rank 0
and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from bluestab.training.check import check
from bluestab.training.loop.memory import Sizes, is_out_of_memory
from bluestab.training.loop.ranks import OUT_OF_MEMORY, Ranks, join


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; rank 0 decides
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        _take_part(order)
    except Exception as error:
        traceback.print_exc()
        return OUT_OF_MEMORY if is_out_of_memory(error) else 1
    return 0


def _take_part(order: dict[str, Any]) -> None:
    from bluestab.training.attempt import Attempt
    from bluestab.training.job import Job
    from bluestab.training.loop.checkpoints import Found

    run = check({**order["cfg"], "keep": "none", "logger": {}})
    if run.key != order["key"]:
        raise RuntimeError(f"run {order['key']} is {run.key} here: its data have just changed")
    folder, rank = Path(order["folder"]), order["rank"]
    ranks = Ranks(rank, order["size"], order["divides_evaluation"])
    (folder / f"{rank}.ready").touch()
    join(folder, rank, order["size"], order["device"])
    found = order["found"] and Found(Path(order["found"][0]), order["found"][1], {})
    sizes, resume = Sizes(**order["sizes"]), Path(order["resume"])
    with tempfile.TemporaryDirectory(dir=folder) as name:
        job = Job(run, Path(name), resume, order["device"], ranks=ranks)
        Attempt(job, sizes).take_part(found)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
