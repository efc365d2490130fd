"""NCBI-disease (Dogan et al. 2014) in PubTator form -> CoNLL with one type, see `pubtator`."""

from bluestab.data.converters.originals import Files, given
from bluestab.data.converters.pubtator import conll

PARTS = {"train": "train", "devel": "develop", "test": "test"}


def convert(files: Files) -> dict[str, bytes]:
    """`NCBI{train,develop,test}set_corpus.txt` -> `conll/{train,devel,test}.tsv`."""
    return {
        f"conll/{part}.tsv": conll(given(files, f"NCBI{name}set_corpus.txt"), "Disease")
        for part, name in PARTS.items()
    }
