"""The files of a run beside its record: log, config, curve, predictions, weights."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core import secrets
from bluestab.core.errors import StoreError
from bluestab.core.plain_files import read_bounded
from bluestab.core.types import WEIGHTS_TO_KEEP, Example, Split
from bluestab.store.files import write_text
from bluestab.store.records import to_json
from bluestab.store.representations import FILE as REPRESENTATIONS
from bluestab.store.store import parse_record

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("bluestab")

PREDICTION_COLUMNS = ("at", "id", "prediction", "target", "logits")


class _WithoutSecrets(logging.Formatter):
    """What libraries say of a server may hold the password to it."""

    def format(self, record: logging.LogRecord) -> str:
        return secrets.cleaned(super().format(record))


class _LogFile(logging.FileHandler):
    """Lines that cannot be written (full disk) are left out: what ends the run is the result."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Everything logged or warned during the run goes into its own file."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_WithoutSecrets("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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


def write_parts(path: Path, splits: Mapping[Split, Sequence[Example]]) -> None:
    """`id,split` of every item that a run used, where its parts were drawn; never the text."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["id", "split"])
    for split, examples in splits.items():
        table.writerows([e.id, split] for e in examples)
    write_text(path, out.getvalue())


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    """Test items at last and best: id, prediction, target, logits (row-major); never the text.

    Of spans `offsets`, too: start and end (exclusive) of every word in characters, in turn.
    """
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


MOST_PREDICTIONS = 2**30
"""Bytes of a file of predictions that is read whole; those of 10,000 items have a megabyte."""


def read_predictions(path: Path, digest: str | None = None) -> pa.Table:
    """What `write_predictions` wrote, test items at last and best in order.

    digest  SHA-256 that the file must have, if it is known

    Raises StoreError with a sentence if it is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = read_bounded(path, MOST_PREDICTIONS)
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("its SHA-256 is not the one in record.json")
        table = pq.ParquetFile(pa.BufferReader(content)).read()
        if lacking := {*PREDICTION_COLUMNS} - {*table.column_names}:
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} cannot be used ({str(error).partition(chr(10))[0]}); delete the folder it is "
            "in, and the run's command does it again"
        ) from error
    return table


def lacks_weights(folder: Path, keep: str) -> bool:
    """Whether a finished run in `folder` has not all the weights that `keep` asks for.

    A run without a score (diverged) has no weights worth keeping. Raises StoreError if its record
    is damaged.
    """
    missing = [
        at
        for at in WEIGHTS_TO_KEEP[keep]
        if not os.path.isfile(folder / "checkpoint" / at / "config.json")
    ]
    return bool(missing) and _has_a_score(folder)


PATH_INTEGRAL = "path_integral.safetensors"
"""Beside the last weights, where `keep_path_integral` asks for it."""


def lacks_path_integral(folder: Path) -> bool:
    """Whether a finished run in `folder` has not its path integral.

    A diverged run has none. Raises StoreError if its record is damaged.
    """
    file = folder / "checkpoint" / "last" / PATH_INTEGRAL
    return not os.path.isfile(file) and _has_a_score(folder)


def importance_file(weights: Path, name: str) -> Path:
    """Beside kept weights, where `keep_importance` names it."""
    return weights / f"importance-{name}.safetensors"


def lacking_importances(folder: Path, keep: str, names: Iterable[str]) -> list[str]:
    """Those of these importances that a finished run in `folder` has not of each of the weights
    that it is to keep.

    A diverged run has none. Raises StoreError if its record is damaged.
    """
    kept = [folder / "checkpoint" / at for at in WEIGHTS_TO_KEEP[keep]]
    lacking = [n for n in names if not all(importance_file(w, n).is_file() for w in kept)]
    return lacking if lacking and _has_a_score(folder) else []


def lacks_representations(folder: Path) -> bool:
    """Whether a finished run in `folder` has not the vectors of its test items.

    A diverged run has none. Raises StoreError if its record is damaged.
    """
    return not os.path.isfile(folder / REPRESENTATIONS) and _has_a_score(folder)


def _has_a_score(folder: Path) -> bool:
    return parse_record(folder / "record.json").status == "done"


def write_config(path: Path, cfg: Mapping[str, Any]) -> None:
    """The resolved config, without secrets."""
    write_text(path, config_text(secrets.stored(cfg)))


def config_text(cfg: Mapping[str, Any]) -> str:
    """What `config.yaml` holds."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(json.loads(to_json(cfg))))
