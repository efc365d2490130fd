"""What each plain knob of the config may hold; tasks, models and techniques check their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bluestab.core.config import leaves
from bluestab.core.errors import did_you_mean
from bluestab.core.rules import FLAG, Rule, above, at_least, is_number, one_of, whole, within
from bluestab.core.secrets import REFERENCES
from bluestab.core.types import IMPORTANCES

TIME = re.compile(r"([1-9]\d*)\s*(s|min|h)")


def _every(value: Any) -> bool:
    steps, _ = whole(1, null=True)
    return steps(value) or (isinstance(value, str) and bool(TIME.fullmatch(value)))


def _warmup(value: Any) -> bool:
    steps, _ = whole(1)
    return steps(value) or (is_number(value) and 0 <= value < 1)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
ON_CRASH = re.compile(r"continue|stop|retry:[1-9]\d{0,2}")
ATTENTION = one_of("eager", "sdpa", "flash_attention_2")
BITS: Rule = (
    lambda value: value is None or (isinstance(value, int) and value in (4, 8)),
    "4, 8 or null",
)
PER_DEVICE = ("micro_batch", "dropout_masks", "embedding_rows")
"""Knobs of the trainer that are one value, or one for each kind of device."""
DEVICE_KINDS = frozenset(("cpu", "cuda", "mps"))


def _or_per_device(rule: Rule) -> Rule:
    """One value for every device, or one for each kind of device."""
    holds, said = rule

    def one_or_each(value: Any) -> bool:
        if not isinstance(value, Mapping):
            return holds(value)
        return value.keys() == DEVICE_KINDS and all(map(holds, value.values()))

    return one_or_each, f"{said}; or one of these for each of cpu, cuda and mps"


RULES: Mapping[str, Rule] = {
    "seed": whole(0),
    "seeds.init": whole(0, null=True),
    "seeds.order": whole(0, null=True),
    "seeds.dropout": whole(0, null=True),
    "seeds.split": whole(0),
    "store": (_text, "a folder"),
    "device": (
        lambda v: isinstance(v, str) and bool(DEVICE.fullmatch(v)),
        "auto, cpu, cuda, cuda:N or mps",
    ),
    "on_crash": (
        lambda v: isinstance(v, str) and bool(ON_CRASH.fullmatch(v)),
        "continue, stop or retry:N",
    ),
    "timeout": above(0, null=True),
    "checkpoint_every": (
        _every,
        "null, optimizer steps (a whole number >= 1) or a time like 90s, 10min, 1h",
    ),
    "on_oom": one_of("crash", "halve"),
    "keep": one_of("none", "best", "last", "all"),
    "keep_representations": FLAG,
    "keep_path_integral": FLAG,
    "keep_importance": (
        lambda v: isinstance(v, list) and all(v.count(x) == 1 and x in IMPORTANCES for x in v),
        f"a list of {', '.join(IMPORTANCES)}, each once",
    ),
    "score_earlier": FLAG,
    "shared_head": FLAG,
    "stop_degenerate": FLAG,
    "profile": FLAG,
    "optim.lr": above(0),
    "optim.batch_size": whole(1),
    "optim.bucket": whole(2, null=True),
    "optim.epochs": whole(1, null=True),
    "optim.steps": whole(1, null=True),
    "optim.patience": whole(1, null=True),
    "optim.warmup": (_warmup, "a fraction >= 0 and < 1, or a whole number of steps >= 1"),
    "optim.weight_decay": at_least(0),
    "optim.beta1": at_least(0, below=1),
    "optim.beta2": at_least(0, below=1),
    "optim.eps": above(0),
    "optim.bias_correction": FLAG,
    "optim.clip": above(0, null=True),
    "trainer.precision": one_of(32, "bf16", "auto"),
    "trainer.devices": whole(1, high=64),
    "trainer.threads": whole(1, high=256),  # thousands would stall the whole machine
    "trainer.eval_every": whole(1, null=True),
    "trainer.eval_batch_size": whole(1),
    "trainer.eval_tokens": whole(1, null=True),
    "trainer.micro_batch": _or_per_device(whole(1, null=True)),
    "trainer.dropout_masks": _or_per_device(one_of("torch", "sfc64")),
    "trainer.embedding_rows": _or_per_device(one_of("all", "used")),
    "trainer.gradient_checkpointing": FLAG,
    "trainer.activations": one_of("full", "compressed"),
    "trainer.activation_bits": BITS,
    "trainer.attention_bits": BITS,
    "trainer.wide_bits": BITS,
    "trainer.norm_share": within("(0, 1)", null=True),
    "trainer.prefix_cache": FLAG,
    "trainer.prefix_gb": above(0),
    "trainer.loader_workers": whole(0, high=64),
    "trainer.engine": one_of("lightning", "packed"),
    "trainer.attention.cpu": ATTENTION,
    "trainer.attention.cuda": ATTENTION,
    "trainer.attention.mps": ATTENTION,
}
"""What each plain knob may hold. Tasks, models and techniques check their own."""

CHECKED_ELSEWHERE = ("task", "model", "technique", "logger", "sweep", "sequence", REFERENCES)


def knob_problems(cfg: Mapping[str, Any]) -> list[str]:
    """Wrong values, unknown keys and missing keys outside the plug-ins, one sentence each."""
    found = dict(leaves(cfg, without=CHECKED_ELSEWHERE))
    trainer = cfg["trainer"] if isinstance(cfg.get("trainer"), Mapping) else {}
    for knob in PER_DEVICE:
        if isinstance(values := trainer.get(knob), Mapping):  # one value, whatever it is made of
            found = {p: v for p, v in found.items() if not p.startswith(f"trainer.{knob}.")}
            found[f"trainer.{knob}"] = dict(values)
    problems = [
        f"unknown key {path}" + did_you_mean(path, RULES) for path in found if path not in RULES
    ]
    for path, (holds, expected) in RULES.items():
        if path not in found:
            problems.append(f"missing key {path}: expected {expected}")
        elif not holds(found[path]):
            problems.append(f"{path} is {found[path]!r}: expected {expected}")
    optim = cfg.get("optim", {})
    if optim.get("epochs") is None and optim.get("steps") is None:
        problems.append(
            "optim.epochs and optim.steps are both null: one must say how long to train"
        )
    if cfg.get("keep_path_integral") is True and cfg.get("keep") in ("none", "best"):
        problems.append(
            f"keep_path_integral is true, but keep is {cfg['keep']}: it is that of the last "
            "weights; say keep=last or keep=all"
        )
    if cfg.get("keep_importance") and cfg.get("keep") == "none":
        problems.append(
            f"keep_importance is {cfg['keep_importance']}, but keep is none: it is that of the "
            "weights that are kept; say keep=last"
        )
    if trainer.get("activations") == "compressed" and trainer.get("gradient_checkpointing") is True:
        problems.append(
            "trainer.activations is compressed, but trainer.gradient_checkpointing is true: blocks "
            "that are computed again on the way back save nothing that could be compressed; "
            "choose one"
        )
    return problems
