"""A study that is looked at: nothing is created or written, whoever else works on it."""

from __future__ import annotations

import warnings

from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.secrets import cleaned, cleaned_value
from bluestab.sweeps.search.patience import StoragePatience
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.storage import open_storage
from bluestab.sweeps.search.trials import Trials


def read_trials(search: Search) -> Trials:
    """The study of a search, for its trials alone.

    Raises StoreError if it is not there, ConfigError if it cannot be opened.
    """
    import optuna

    own = StoragePatience()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = open_storage(search.storage, own, read_only=True)
            study = optuna.load_study(study_name=search.name, storage=storage)
            study.get_trials(deepcopy=False)
    except KeyError as error:
        raise StoreError(
            f"{cleaned_value(search.storage)} holds no study {search.name}: nothing of the search "
            "is told yet, or its file was replaced"
        ) from error
    except (ConfigError, StoreError):
        raise
    except Exception as error:  # a damaged journal, a database of another version
        raise ConfigError(
            f"the study {search.name} in {cleaned_value(search.storage)} cannot be read: "
            f"{type(error).__name__}: {cleaned(str(error).strip().partition(chr(10))[0][:300])}"
        ) from error
    return Trials(search, study, own)
