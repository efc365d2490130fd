"""A worker process of the pool launcher, from inside: wait for a run, do it, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from bluestab.core import preemption
from bluestab.core.errors import BluestabError, DiskFull, GroupTooLarge, StoreError
from bluestab.core.provenance import memory_now_mb
from bluestab.store.store import Store
from bluestab.sweeps.attempt import Execute, Failures, Together, attempt_together
from bluestab.sweeps.processes import enter
from bluestab.training.check import Run, check


def serve(
    connection: Connection,
    root: str,
    output: str,
    environment: Mapping[str, str],
    *,
    budget_mb: float,
    execute: Execute | None,
    together: Together | None,
) -> None:
    """Do runs, or siblings as one, until the parent hangs up or memory goes over budget.

    Ends also after a run that a signal preempted: see `core/preemption.py`.
    """
    enter(connection, output, environment)
    store = Store(root)
    answer = {"what": "ready"}
    while True:
        memory_mb = memory_now_mb()
        connection.send({**answer, "memory_mb": memory_mb})
        if answer["what"] == "given back" or (memory_mb > budget_mb and answer["what"] != "ready"):
            return
        try:
            orders, failures = connection.recv()
        except EOFError:
            return
        answer = _do(orders, failures, store, execute, together)


def _do(
    orders: Sequence[tuple[str, Mapping[str, Any]]],
    failures: Mapping[str, Failures],
    store: Store,
    execute: Execute | None,
    together: Together | None,
) -> dict[str, Any]:
    """Do these runs; returns the message to the parent, by `what` came of them.

    orders  key and config of each; failures: key -> those that are known, where that counts
    """
    try:
        runs = [_checked(key, cfg) for key, cfg in orders]
        records = attempt_together(runs, store, None, execute, together, failures)
    except (preemption.Preempted, SystemExit, KeyboardInterrupt):
        if not preemption.is_requested():  # the latter two are how Lightning leaves at SIGTERM
            raise
        return {"what": "given back"}
    except DiskFull as error:
        return {"what": "full", "said": str(error), "needed": error.needed}
    except GroupTooLarge as error:
        return {"what": "too large", "said": str(error)}
    except StoreError as error:
        return {"what": "error", "said": str(error)}
    except BluestabError as error:
        return {"what": "refused", "said": str(error)}
    return {"what": "ended", "ends": [None if r is None else r.status for r in records]}


def _checked(key: str, cfg: Mapping[str, Any]) -> Run:
    run = check(cfg)
    if run.key != key:
        raise BluestabError(
            f"run {key} is now {run.key}: its data or weights changed after the sweep began; "
            "start the command again"
        )
    return run
