"""Weights & Biases, offline."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from bluestab.testing.loggers import no_text
from tests.support.logged_runs import RUN, curve, needs
from tests.training.test_execute import done

Make = Callable[..., Any]


def histories(raw: bytes) -> Iterator[Any]:
    """What was logged, out of wandb's file: its records in blocks, as LevelDB writes logs."""
    from wandb.proto import wandb_internal_pb2

    assert raw[:4] == b":W&B"
    at, held = 7, b""
    while at + 7 <= len(raw):
        if 32768 - at % 32768 < 7:  # no room for a head: the block ends in zeros
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        held += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            if record.WhichOneof("record_type") == "history":
                yield record.history.item


def test_wandb_offline(make_run: Make, tmp_path: Path) -> None:
    """What it wrote, read back by its own protocol; nothing of the machine is in it."""
    needs("wandb")
    record = done(make_run(*RUN, "logger=wandb"), tmp_path / "runs")
    log = (tmp_path / "runs" / record.key / "log.txt").read_text()
    assert "logger wandb" not in log
    (file,) = (tmp_path / "runs" / "wandb").rglob("*.wandb")
    found = [
        {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in items}
        for items in histories(file.read_bytes())
    ]
    rows = curve(tmp_path / "runs" / record.key)
    assert [row["train_loss"] for row in found] == [
        pytest.approx(float(r["train_loss"])) for r in rows
    ]
    content = b"".join(p.read_bytes() for p in file.parent.rglob("*") if p.is_file())
    assert socket.gethostname().encode() + b'"' not in content
    assert os.getcwd().encode() not in content
    no_text(tmp_path / "runs" / "wandb")
