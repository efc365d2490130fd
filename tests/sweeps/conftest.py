"""The server that publishes files, and the cache that they are brought to."""

from tests.support.download_site import site
from tests.support.published_files import cached

__all__ = ["cached", "site"]
