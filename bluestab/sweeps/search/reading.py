"""A study that is looked at: nothing is created or written, whoever else works on it."""

from __future__ import annotations

from bluestab.core.errors import StoreError
from bluestab.core.secrets import cleaned_value
from bluestab.sweeps.search.patience import StoragePatience
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.storage import open_storage
from bluestab.sweeps.search.trials import Trials, no_remarks, opening


def read_trials(search: Search) -> Trials:
    """The study of a search, for its trials alone.

    Raises StoreError if it is not there, ConfigError if it cannot be opened.
    """
    import optuna

    own = StoragePatience()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with no_remarks(), opening(search, "read"):
        storage = open_storage(search.storage, own, read_only=True)
        try:
            study = optuna.load_study(study_name=search.name, storage=storage)
        except KeyError as error:
            raise StoreError(
                f"{cleaned_value(search.storage)} holds no study {search.name}: nothing of the "
                "search is told yet, or its file was replaced"
            ) from error
        study.get_trials(deepcopy=False)
    return Trials(search, study, own)
