"""The text of `record.json`: what is written, what is read back, and what counts as damaged.

    {schema, result, measured, checksum}

Old schemas are brought up to date while they are read (`UPGRADES`), for ever; their files are never
rewritten. `checksum` covers the text of the record, `measured.files` the other files of the
run, by name below its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bluestab.core.errors import StoreError
from bluestab.core.printable import CONTROL, printable_tree
from bluestab.core.types import RECORD_SCHEMA, RunRecord
from bluestab.store.schema import check_record

Content = dict[str, Any]

UNSEEN = re.compile(rf"\\u00[01789]|\\u20[026]|\\ufeff|{CONTROL.pattern}", re.IGNORECASE)
"""How control characters stand in JSON; more than those alone, which only costs a look."""


class DamagedRecord(StoreError):
    """A record that cannot be read, or is not what was written."""


def to_json(value: object) -> str:
    """Canonical text: sorted keys, no NaN. Equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def checksum(text: str, value: str) -> str:
    """SHA-256 of a record's text, with nothing in the place of its own checksum `value`."""
    blank = text.replace(f'"checksum": "{value}"', '"checksum": ""', 1)
    return hashlib.sha256(blank.encode()).hexdigest()


def to_text(record: RunRecord) -> str:
    """What `record.json` holds. Raises ValueError if a value is not finite."""
    content = {
        "schema": RECORD_SCHEMA,
        # as a reader will see it: keys that are numbers become text, and sort as such
        "result": json.loads(to_json(record.result)),
        "measured": json.loads(to_json(record.measured)),
    }
    blank = to_json({"checksum": "", **content})
    return blank.replace('"checksum": ""', f'"checksum": "{checksum(blank, "")}"', 1)


def from_text(text: str, where: Path, key: str | None = None) -> RunRecord:
    """A record from its text, brought to the present schema.

    where  the file, for messages; key  the run it should be of

    Raises DamagedRecord, or StoreError if its schema is newer than this version.
    """
    try:
        content = json.loads(text)
        schema = content["schema"]
        if type(schema) is not int or schema < 1:
            raise ValueError(f"its schema is {schema!r}")
        if schema <= RECORD_SCHEMA:
            if schema >= 2 and content["checksum"] != checksum(text, content["checksum"]):
                raise ValueError("its checksum does not fit: it was changed after it was written")
            for version in range(schema, RECORD_SCHEMA):
                content = UPGRADES[version](content)
            result, measured = content["result"], content["measured"]
            check_record({"result": result, "measured": measured})
            if UNSEEN.search(text):  # what is shown of it; what decides its key stays as it is
                measured = printable_tree(measured)
                result = {**result, "error": printable_tree(result.get("error"))}
            if key is not None and result["key"] != key:
                raise ValueError(f"it is the record of run {result['key']}")
    except KeyError as error:
        raise damaged(where, f"it lacks {error}") from error
    except (ValueError, TypeError, RecursionError, AttributeError) as error:
        raise damaged(where, error) from error
    if schema > RECORD_SCHEMA:
        raise StoreError(
            f"{where} has schema {schema}, this version of bluestab reads up to {RECORD_SCHEMA}; "
            "update bluestab"
        )
    return RunRecord(RECORD_SCHEMA, result, measured)


def damaged(where: Path, why: object) -> DamagedRecord:
    return DamagedRecord(
        f"{where} is damaged ({why}); its run's command sets it aside and does it again; all "
        f"damage is listed by: bluestab store verify {_store_of(where)}"
    )


def _store_of(record: Path) -> Path:
    folder = record.parent.parent
    return folder.parent if folder.name in (".crashed", ".work") else folder


def _from_1(content: Content) -> Content:
    """Schema 1 had no checksum, no list of files, no micro-batches and no run stopped early."""
    return {
        "result": {"censored": None, "micro_batch": None, **content["result"]},
        "measured": {"files": None, **content["measured"]},
    }


UPGRADES: Mapping[int, Callable[[Content], Content]] = {1: _from_1}
"""Schema -> what makes the next one of it."""
