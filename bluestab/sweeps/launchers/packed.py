"""Sibling runs train as one, group after group, in this process; others run by themselves.

What can be packed gets `trainer.engine=packed`, which is part of its key: that is a matter of its
config, never of its seed or of the group it happens to be in, so that no cell mixes engines. What
cannot is done as the launcher `local` does it. Of a group that is cut off the same command trains
those runs again that are missing, from its checkpoint (`checkpoint_every`) if all of them are.
"""

from __future__ import annotations

from bluestab.core import rules
from bluestab.core.errors import ConfigError
from bluestab.sweeps.grouping import GROUP
from bluestab.sweeps.launchers.local import Local


class Packed(Local):
    """group: runs that train as one at most; null: what memory is expected to hold."""

    def __init__(self, *, group: int | None) -> None:
        if wrong := rules.problems({"hydra.launcher.group": (group, GROUP)}):
            raise ConfigError(*wrong)
        self.group = group
