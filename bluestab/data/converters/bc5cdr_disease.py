"""BC5CDR (BioCreative V) in PubTator form -> diseases as CoNLL, see `pubtator`.

4182 / 4246 / 4424 mentions: two of the 4244 of the development part ("St. Anthony's fire") are cut
at `St.`, as in the files BLURB uses.
"""

from bluestab.data.converters.bc5cdr_chem import PARTS
from bluestab.data.converters.originals import Files, given
from bluestab.data.converters.pubtator import conll


def convert(files: Files) -> dict[str, bytes]:
    """`CDR_{Training,Development,Test}Set.PubTator.txt` -> `{train,devel,test}.tsv`."""
    return {
        f"{part}.tsv": conll(given(files, f"CDR_{name}Set.PubTator.txt"), "Disease", "Disease")
        for part, name in PARTS.items()
    }
