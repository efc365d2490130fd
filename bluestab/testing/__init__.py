"""The suites that every plug-in of ours passes, for tests of one's own plug-ins.

A test file subclasses the suite of its kind and names the plug-in:
`techniques.TechniqueSuite`, `tasks.TaskSuite`, `launchers.LauncherSuite`, `loggers.LoggerSuite`.
"""

import sys
from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ImportError(
        "bluestab.testing needs the Python package pytest, which is not installed: "
        "pip install 'bluestab[testing]'"
    )

if "pytest" in sys.modules:  # and not in a worker process, which needs the simulated runs alone
    import pytest

    suites = ("techniques", "tasks", "launchers", "loggers", "observed_training")
    pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in suites))
