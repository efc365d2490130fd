"""bluestab: how much of a fine-tuning result is the technique, and how much is the seed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """`__version__` on demand: reading the metadata costs 20 ms that most starts can save."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("bluestab")
        except PackageNotFoundError:  # a checkout on the path, not installed
            return "0+unknown"
