"""Encoders that the installed transformers has of its own, and what their code reads of a config.

A family needs no table of ours: transformers' own mappings say which networks are encoders with
both kinds of heads, and the source of a family, which is installed and not the checkpoint's, says
which entries of a config it reads.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from bluestab.core.errors import did_you_mean
from bluestab.core.rules import Rule

READS = re.compile(r"""(?:config\.|getattr\((?:self\.)?config, ["'])(\w+)""")
WORD = re.compile(r"[A-Za-z0-9][\w|-]{0,63}")
LARGE = 2**24


def why_no_encoder(family: str) -> str | None:
    """Why networks of this `model_type` cannot be fine-tuned here, or None.

    An encoder is what transformers has a masked language model of: decoders see the words before
    one alone, and the first word piece, which heads read, would see none.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    if family not in CONFIG_MAPPING:
        known = sorted(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
        return (
            "no network that the installed transformers has; code of a checkpoint is not run, a "
            "newer transformers may have it" + did_you_mean(family, known)
        )
    for kind, names in (
        ("masked language model", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        ("classifier of texts", modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
        ("classifier of words", modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
    ):
        if family not in names:
            return f"no encoder that can be trained here: transformers has no {kind} of it"
    return None


def names_of(family: str) -> Mapping[str, str]:
    """Usual name of an entry -> the family's own (`hidden_size` is DistilBERT's `dim`)."""
    from transformers import CONFIG_MAPPING

    return dict(CONFIG_MAPPING[family].attribute_map)


@lru_cache(maxsize=64)
def entries_of(family: str) -> frozenset[str]:
    """The entries of its config that the family's own code declares or reads.

    Names of transformers' general machinery are none of them: dtypes, kernels, where code lies.
    """
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    own = CONFIG_MAPPING[family]
    read = set(inspect.signature(own).parameters)
    folder = Path(inspect.getfile(own)).parent
    for source in folder.glob("*.py"):
        if source.name.startswith(("modeling_", "configuration_")):
            read |= set(READS.findall(source.read_text(encoding="utf-8")))
    if "rope_parameters" in read:  # where an older transformers wrote what it holds
        read |= {"rope_theta", "partial_rotary_factor"}
    general = {*dir(PreTrainedConfig()), *inspect.signature(PreTrainedConfig).parameters}
    general -= set(own.__annotations__)
    return frozenset(n for n in read - general if not n.startswith("_"))


def is_plain(value: object, depth: int = 3) -> bool:
    """Numbers, flags, null, single words without dots or slashes, lists and maps of these."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= LARGE
    if isinstance(value, str):
        return bool(WORD.fullmatch(value))
    if depth == 0 or not isinstance(value, list | dict) or len(value) > 4096:
        return False
    if isinstance(value, dict):
        return all(map(is_plain, value)) and is_plain([*value.values()], depth)
    return all(is_plain(item, depth - 1) for item in value)


PLAIN: Rule = (is_plain, "numbers, flags or words, or lists and maps of these")


def rules_of(family: str, usual: Mapping[str, Rule]) -> dict[str, Rule]:
    """What each entry of the config may be; `usual`: rules by the usual names of entries."""
    own = dict.fromkeys(entries_of(family), PLAIN)
    for name, rule in usual.items():
        name = names_of(family).get(name, name)
        if name in own:
            own[name] = rule
    return own
