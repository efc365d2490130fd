"""The files of a run beside its record: log, config, curve, predictions."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bluestab.store import to_json, write_text

log = logging.getLogger("bluestab")


class _LogFile(logging.FileHandler):
    """Lines that cannot be written (full disk) are left out: what ends the run is the result."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Everything logged or warned during the run goes into its own file."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [log, logging.getLogger("py.warnings")]
    logging.captureWarnings(True)
    log.setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        logging.captureWarnings(False)
        with suppress(OSError):
            handler.close()


def write_curve(path: Path, rows: list[dict[str, Any]]) -> None:
    """One line per evaluation: step, mean training loss since the one before, validation scores."""
    out = io.StringIO()
    names = list(rows[0]) if rows else ["step", "train_loss"]
    out.write(",".join(names) + "\n")
    for row in rows:
        out.write(",".join(_cell(row[name]) for name in names) + "\n")
    write_text(path, out.getvalue())


def _cell(value: float | int | None) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else repr(value)


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    """Test items at last and best: id, prediction, target, logits (row-major); never the text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows)
    if rows:
        table = table.set_column(
            table.schema.get_field_index("logits"),
            "logits",
            table["logits"].cast(pa.list_(pa.float32())),
        )
    pq.write_table(table, path, compression="zstd")


def write_config(path: Path, cfg: Mapping[str, Any]) -> None:
    """The resolved config."""
    from omegaconf import OmegaConf

    write_text(path, OmegaConf.to_yaml(OmegaConf.create(json.loads(to_json(cfg)))))
