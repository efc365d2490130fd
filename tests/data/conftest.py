"""The server that publishes files."""

from tests.support.download_site import site

__all__ = ["site"]
