"""Lines: a line per evaluation, in a text file per run."""

from bluestab.training.loggers.base import Log, Logger, results_of, scores_of


class Lines(Logger):
    """ending: of the names of the files."""

    def __init__(self, *, ending):
        self.ending = ending

    def rules(self):
        return {"ending": (lambda v: isinstance(v, str) and v.startswith("."), "e.g. .txt")}

    def begin(self, told):
        folder = told.store / "lines"
        folder.mkdir(parents=True, exist_ok=True)
        return _Lines(folder / f"{told.key}{self.ending}")


class _Lines(Log):
    def __init__(self, path):
        self.path = path

    def rows(self, rows):
        self._write(f"{rows[-1]['step']} {scores_of(rows[-1])}")

    def end(self, record):
        self._write(f"{record.status} {results_of(record)}")

    def _write(self, line):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
