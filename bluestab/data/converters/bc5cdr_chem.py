"""BC5CDR (BioCreative V) in PubTator form -> chemicals as CoNLL, see `pubtator`."""

from bluestab.data.converters.originals import Files, given
from bluestab.data.converters.pubtator import conll

PARTS = {"train": "Training", "devel": "Development", "test": "Test"}


def convert(files: Files) -> dict[str, bytes]:
    """`CDR_{Training,Development,Test}Set.PubTator.txt` -> `{train,devel,test}.tsv`."""
    return {
        f"{part}.tsv": conll(given(files, f"CDR_{name}Set.PubTator.txt"), "Chemical", "Chemical")
        for part, name in PARTS.items()
    }
