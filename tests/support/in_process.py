"""The console script in this process; one of its own takes seconds to import what is here."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from typer.main import get_command


@cache
def command_of(app: Any) -> Any:
    return get_command(app)


def exit_code(arguments: tuple[str, ...], environment: Mapping[str, str]) -> int:
    """Of `bluestab ARGUMENTS` in an environment; what it leaves in this process is undone."""
    from hydra.core.global_hydra import GlobalHydra

    from bluestab.cli.app import main

    before, root = dict(os.environ), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", command_of)  # of an app that does not change
        patch.setattr(sys, "argv", ["bluestab", *arguments])
        patch.setattr(sys, "path", list(sys.path))
        os.environ.clear()
        os.environ.update(environment)
        try:
            main()
        except SystemExit as leaving:
            return leaving.code or 0  # type: ignore[return-value]
        finally:
            os.environ.clear()
            os.environ.update(before)
            root.handlers[:], root.level = handlers, level  # `--info` adds one
            GlobalHydra.instance().clear()
    return 0
