"""`model.init_from`: weights that an earlier run kept, as the point from which a run starts.

Fine-tuning on a related task with more labels first, then on the task itself, is intermediate-task
training: plain fine-tuning, twice (STILTs: Phang, Fevry & Bowman 2018, arXiv 1811.01088; when it
helps: Pruksachatkun et al. 2020, ACL). As in the code of the former (github.com/zphang/
bert_on_stilts), the encoder is taken with its pooler, the head is fresh, and the weights are those
after the last step unless the knob says `:best`.

A stage of a sequence of tasks says `stage:KEY:AT`: the same weights, which are then known by the
run that leaves them (`keys.py`), not by their content: a stage has a key before they exist. One
that says `stage:KEY:start` knows the tasks of that run and those before, and starts from the
model's own weights all the same: what all of them can come to together.

Weights are found and verified here, before anything is loaded; `networks.py` reads them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.paths import expanded, real
from bluestab.core.plain_files import check_plain
from bluestab.core.secrets import cleaned_command
from bluestab.core.types import WEIGHTS_TO_KEEP, At, RunRecord
from bluestab.data.locate import sha256_of
from bluestab.models.description import Model
from bluestab.store.store import KEY, Store, parse_record

PREFIX = re.compile(r"[0-9a-f]{4,16}")
STAGE = "stage:"
START: Final = "start"
EXPECTED = (
    "expected the key of a run (or its first digits, at least 4), KEY:last or KEY:best, or the "
    "folder of a run"
)


@dataclass(frozen=True, kw_only=True)
class SavedWeights:
    """Weights of a finished run.

    folder  that holds them, as transformers writes it
    sha256  of its model.safetensors: what the weights are, wherever they lie
    run, at, task  whose they are: the key, last or best, what it was trained on
    said    how `model.init_from` names them in full: KEY:AT, of another store FOLDER:AT
    failed  with them that run was no better than an answer that ignores its input
    """

    folder: Path
    sha256: str
    run: str
    at: At
    task: str
    said: str
    failed: bool

    @property
    def file(self) -> Path:
        return self.folder / "model.safetensors"

    def notes(self) -> list[str]:
        """A sentence where that run failed, for whoever starts from them."""
        if not self.failed:
            return []
        return [
            f"model.init_from={self.said}: a failed run: with these weights it is no better on "
            f"{self.task} than an answer that ignores its input"
        ]

    def names(self) -> dict[str, str]:
        """What a record says of them beside their hash."""
        return {"run": self.run, "at": self.at, "task": self.task}


def parse(value: object, knob: str = "model.init_from") -> tuple[str, At | None]:
    """What `knob` says: a key, the beginning of one or a path; and which weights.

    Raises ConfigError if it is none of these.
    """
    if isinstance(value, float):
        raise ConfigError(
            f"{knob} is {value!r}: digits with an e between them are read as a number; say KEY:last"
        )
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise ConfigError(f"{knob} is {value!r}: {EXPECTED}")
    if text.startswith(STAGE):
        text = text.removeprefix(STAGE).removesuffix(f":{START}")
    run, _, which = text.rpartition(":")
    at = next((at for at in WEIGHTS_TO_KEEP["all"] if at == which), None)
    if at is None:
        run = text
    if not (PREFIX.fullmatch(run) or _is_path(run)):
        raise ConfigError(f"{knob} is '{text}': {EXPECTED}")
    return run, at


def predecessor_of(value: object) -> tuple[str, At | Literal["start"]] | None:
    """Key and weights that `stage:KEY:AT` names (start: none of its); None: it is no stage.

    Raises ConfigError if what it names is no whole key.
    """
    if not isinstance(value, str) or not value.startswith(STAGE):
        return None
    run, at = parse(value)
    if not KEY.fullmatch(run):
        raise ConfigError(
            f"model.init_from is '{value}': expected {STAGE}KEY:last, {STAGE}KEY:best or "
            f"{STAGE}KEY:{START}, with all 16 digits of the key of the stage before"
        )
    return run, START if value.endswith(f":{START}") else at or "last"


def _is_path(text: str) -> bool:
    return "/" in text or text.startswith(("~", "."))


def find(value: object, store: Store, model: Model) -> SavedWeights:
    """The weights that `model.init_from` names, for a run of this model in this store.

    Raises ConfigError if there are none, if they are damaged, or if they are of another model.
    """
    where = f"model.init_from is '{value}'"
    folder, at, record = finished(value, store)
    if record.status != "done":
        raise ConfigError(
            f"{where}: run {record.key} {record.status} ({record.result['error']['message']}), so "
            "it has no weights to start from; name another run"
        )
    own = Store(folder.parent)
    check_saved(folder, at, record, own, where)
    _check_model(folder, at, record, model, where)
    in_store = real(folder) == real(store.folder(record.key))
    return SavedWeights(
        folder=real(folder) / "checkpoint" / at,
        sha256=verified(folder, at, record, own, where),
        run=record.key,
        at=at,
        task=record.measured["names"]["task"],
        said=str(value)
        if predecessor_of(value)
        else f"{record.key if in_store else real(folder)}:{at}",
        failed=bool((record.result["degenerate"] or {}).get(at)),
    )


def finished(
    value: object, store: Store, knob: str = "model.init_from"
) -> tuple[Path, At, RunRecord]:
    """The folder and the record of the run that `knob` names, and which of its weights are meant.

    Raises ConfigError if there is no such finished run, or if its record cannot be read.
    """
    run, at = parse(value, knob)
    where = f"{knob} is '{value}'"
    try:
        folder, at = (
            _folder_of_path(run, at, where)
            if _is_path(run)
            else (
                _folder_of_key(run, store, where),
                at or "last",
            )
        )
        return folder, at, parse_record(folder / "record.json")
    except StoreError as error:
        raise ConfigError(f"{where}: {error}") from error


def _folder_of_path(path: str, at: At | None, where: str) -> tuple[Path, At]:
    """A run's folder, or that of its kept weights -> the run's folder, which weights."""
    folder = expanded(path)
    if folder.parent.name == "checkpoint" and folder.name in WEIGHTS_TO_KEEP["all"]:
        which: At = "best" if folder.name == "best" else "last"
        if at not in (None, which):
            raise ConfigError(f"{where}: it names the weights '{which}' and '{at}'; drop ':{at}'")
        folder, at = folder.parent.parent, which
    if not (folder / "record.json").is_file():
        raise ConfigError(
            f"{where}: {folder} is no folder of a finished run (it holds no record.json); for "
            "weights from elsewhere say model.path=FOLDER"
        )
    return folder, at or "last"


def _folder_of_key(prefix: str, store: Store, where: str) -> Path:
    """The folder of the one finished run whose key begins so."""
    names = [path.name for path in store.root.glob(f"{prefix}*") if KEY.fullmatch(path.name)]
    done = sorted(name for name in names if store.has(name))
    if len(done) == 1:
        return store.folder(done[0])
    if done:
        more = f" and {len(done) - 3} more" if len(done) > 3 else ""
        raise ConfigError(
            f"{where}: {len(done)} runs begin so ({', '.join(done[:3])}{more}); write more digits"
        )
    running = [key for key in store.running() if key.startswith(prefix)]
    if running:
        raise ConfigError(f"{where}: run {running[0]} is not finished; wait for it")
    crashed = [p.name for p in store.crash_folder("").glob(f"{prefix}*") if KEY.fullmatch(p.name)]
    if crashed:
        raise ConfigError(
            f"{where}: run {crashed[0]} crashed (see {store.crash_folder(crashed[0])}/log.txt), so "
            "it has no weights; its own command tries it again"
        )
    raise ConfigError(
        f"{where}: the store '{store.root}' has no run whose key begins so; `bluestab report "
        "--all` writes the keys of all runs into runs.csv, and a run of another store is named by "
        "its folder"
    )


def check_saved(folder: Path, at: At, record: RunRecord, own: Store, where: str) -> None:
    """Raises ConfigError if the run in `folder` did not keep these weights."""
    kept = [
        a
        for a in WEIGHTS_TO_KEEP["all"]
        if (folder / "checkpoint" / a / "model.safetensors").is_file()
    ]
    if at in kept:
        return
    again = _keeping(own, record, at)
    if kept:
        raise ConfigError(
            f"{where}: run {record.key} kept its {kept[0]} weights only; say {record.key}:"
            f"{kept[0]}, or have it keep the others with {again}"
        )
    raise ConfigError(f"{where}: run {record.key} kept no weights; have it keep them with {again}")


def _check_model(folder: Path, at: At, record: RunRecord, model: Model, where: str) -> None:
    """Only the same checkpoint is sure to have the same vocabulary: two can be of equal size."""
    theirs, ours = record.result["config"]["model"], model.identity()
    if theirs == ours:
        return
    name = record.measured["names"]["model"]
    try:
        said: Any = json.loads((folder / "checkpoint" / at / "config.json").read_text("utf-8"))
        sizes = f"{said['model_type']}, {said['num_hidden_layers']} blocks of {said['hidden_size']}"
    except (OSError, ValueError, KeyError, TypeError):
        sizes = "its config.json cannot be read"
    raise ConfigError(
        f"{where}: run {record.key} trained model '{name}' ({sizes}; {theirs}), this run's is "
        f"'{model.name}' ({model.family}, {model.layers} blocks of {model.hidden_size}; {ours}), "
        f"with a vocabulary of its own; say model={name}, or name a run of {model.name}"
    )


def verified(folder: Path, at: At, record: RunRecord, own: Store, where: str) -> str:
    """SHA-256 of the weights. Raises ConfigError if they are not what the run kept."""
    from safetensors import SafetensorError, safe_open

    name = f"checkpoint/{at}/model.safetensors"
    file = folder / name
    try:
        check_plain(file)
        with safe_open(file, framework="numpy") as opened:  # which looks at its length, too
            opened.keys()
        digest = sha256_of(file)
        # weights that were added to a finished run are not listed in its record
        listed = (record.measured["files"] or {}).get(name, digest)
        if digest != listed:
            raise ValueError("its SHA-256 is not the one in record.json")
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"{where}: {file} is damaged ({error}); remove {file.parent} and have the run keep it "
            f"anew with {_keeping(own, record, at)}"
        ) from error
    return digest


def _keeping(own: Store, record: RunRecord, at: At) -> str:
    """The line that has a finished run keep weights (it is run again and comes out the same)."""
    overrides = _overrides(own, record)
    if overrides is None:
        return f"its own command and keep={at}"
    rest = [override for override in overrides if not override.startswith("keep=")]
    return shlex.join(["bluestab", "run", *rest, f"keep={at}"])


def command_of(own: Store, record: RunRecord) -> str:
    """The line that makes exactly this run, as far as it is known."""
    overrides = _overrides(own, record)
    if overrides is None:
        return cleaned_command(str(record.measured.get("command")))
    return shlex.join(["bluestab", "run", *overrides])


def _overrides(own: Store, record: RunRecord) -> Sequence[str] | None:
    """What made exactly this run, from the manifest of a sweep or from its own command."""
    for manifest in own.whole_manifests():
        for run in manifest["runs"]:
            if run["key"] == record.key:
                return list(run["overrides"])
    with suppress(KeyError, ValueError, AttributeError):
        words = shlex.split(cleaned_command(record.measured["command"]))
        if words[:2] == ["bluestab", "run"] and not {"-m", "--multirun"} & set(words):
            return words[2:]
    return None
