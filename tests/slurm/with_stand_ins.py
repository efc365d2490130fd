"""In place of `python` on a node: a task whose runs are simulated (`testing.simulated_runs`).

Called as the interpreter is: `-u -m bluestab.sweeps.slurm.task FOLDER --first=N`.
"""

from __future__ import annotations

import sys
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from bluestab.sweeps.slurm import task  # noqa: E402
from bluestab.testing import simulated_runs  # noqa: E402

real = task.search_on


def of_a_search(submission: Any, job: str, execute: Any) -> int:
    from tests.support import simulated_search

    return real(submission, job, simulated_search.execute)


if __name__ == "__main__":
    # workers that train nothing need no torch
    ForkServerContext.set_forkserver_preload = lambda *_: None  # type: ignore[method-assign]
    task.work = partial(task.work, execute=simulated_runs.execute)
    task.search_on = of_a_search
    arguments = sys.argv[1:]
    assert arguments[:3] == ["-u", "-m", "bluestab.sweeps.slurm.task"], arguments
    sys.exit(task.main(arguments[3:]))
