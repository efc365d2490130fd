"""Everything in this package keeps the contract of its kind."""

from pathlib import Path

import bluestab_example

from bluestab.testing.launchers import LauncherSuite
from bluestab.testing.loggers import LoggerSuite
from bluestab.testing.tasks import TaskSuite
from bluestab.testing.techniques import TechniqueSuite


class Here:
    """Where the yamls are, and what they may name."""

    conf = Path(bluestab_example.__file__).parent / "conf"
    allow = "bluestab_example"


class TestGentle(Here, TechniqueSuite):
    technique = "gentle"
    claims = {  # noqa: RUF012
        "slower_tensors": lambda seen, plain: sum(
            rates != plain.rates[name] for name, rates in seen.rates.items()
        )
    }


class TestWordy(Here, TaskSuite):
    task = "wordy"


class TestBackwards(Here, LauncherSuite):
    launcher = "backwards"


class TestLines(Here, LoggerSuite):
    logger = "lines"
    folder = "lines"
