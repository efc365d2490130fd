"""The curve is a table that grows while the run trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.support.logged_runs import RUN, curve
from tests.training.test_execute import done

Make = Callable[..., Any]


def test_csv_grows_while_the_run_trains(make_run: Make, tmp_path: Path) -> None:
    seen: list[int] = []

    def look(*_: Any) -> None:
        found = list((tmp_path / "runs" / ".work").glob("*/curve.csv"))
        seen.append(len(curve(found[0].parent)) if found else 0)

    record = done(make_run(*RUN), tmp_path / "runs", progress=look)
    whole = curve(tmp_path / "runs" / record.key)
    assert len(whole) == 6
    assert set(range(6)) <= set(seen)
    seen.clear()
    done(make_run(*RUN, "logger=none"), tmp_path / "runs2", progress=look)
    assert set(seen) == {0}
