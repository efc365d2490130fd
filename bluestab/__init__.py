"""bluestab: how much of a fine-tuning result is the technique, and how much is the seed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bluestab.api import BluestabError as BluestabError
    from bluestab.api import ConfigError as ConfigError
    from bluestab.api import DataError as DataError
    from bluestab.api import FinishedSweep as FinishedSweep
    from bluestab.api import RunRecord as RunRecord
    from bluestab.api import RunsCrashed as RunsCrashed
    from bluestab.api import StoreError as StoreError
    from bluestab.api import load_curves as load_curves
    from bluestab.api import load_predictions as load_predictions
    from bluestab.api import load_store as load_store
    from bluestab.api import load_summary as load_summary
    from bluestab.api import predict as predict
    from bluestab.api import run as run
    from bluestab.api import sweep as sweep
    from bluestab.report import figures as figures

    __version__: str

__all__ = [
    "BluestabError",
    "ConfigError",
    "DataError",
    "FinishedSweep",
    "RunRecord",
    "RunsCrashed",
    "StoreError",
    "__version__",
    "figures",
    "load_curves",
    "load_predictions",
    "load_store",
    "load_summary",
    "predict",
    "run",
    "sweep",
]

if not TYPE_CHECKING:
    from bluestab.core import moved

    moved.install()

    def __dir__() -> list[str]:
        """What there is to use: no help for who completes a name is in what this file imports."""
        return sorted({name for name in globals() if name.startswith("__")} | set(__all__))

    def __getattr__(name: str) -> object:
        """The API and `__version__` on demand: most starts of the command line need neither."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "figures":
            return import_module("bluestab.report.figures")
        if name != "__version__":
            return getattr(import_module("bluestab.api"), name)
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("bluestab")
        except PackageNotFoundError:  # a checkout on the path, not installed
            return "0+unknown"
