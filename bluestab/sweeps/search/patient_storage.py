"""An Optuna storage that waits for its database and asks again, so that nothing is told twice.

A connection that breaks leaves open whether the last transaction was committed. What is set to a
value can be set again; the two questions for which that is not so look first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partialmethod
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from bluestab.sweeps.search.patience import StoragePatience, reason_away


class PatientStorage(BaseStorage):
    """`storage`, whose database may be away for a while.

    where     its URL, for people
    patience  how it waits; may be exchanged at any time
    """

    def __init__(self, storage: BaseStorage, where: str, patience: StoragePatience) -> None:
        self._storage, self._where, self.patience = storage, where, patience

    def _ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        since, tries = 0.0, 0
        while True:
            try:
                if tries and name in ("create_new_trial", "set_trial_state_values"):
                    answer = getattr(self, f"_{name}_again")(*args, **kwargs)
                else:
                    answer = getattr(self._storage, name)(*args, **kwargs)
            except Exception as error:
                if (reason := reason_away(error)) is None:
                    raise
                since, tries = since or time.monotonic(), tries + 1
                self.patience.wait(self._where, reason, since, tries)
            else:
                self.patience.is_back(self._where, since, tries)
                return answer

    def _create_new_trial_again(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> int:
        """A trial that waits in the queue is not queued once more.

        One that runs may be there in vain: nobody has its claim, so that the next process to look
        takes it for a dead one's that drew no point, which counts for nothing.
        """
        if template_trial is not None:
            wanted = (TrialState.WAITING, template_trial.system_attrs, template_trial.user_attrs)
            for trial in self._storage.get_all_trials(study_id, deepcopy=False):
                if (trial.state, trial.system_attrs, trial.user_attrs) == wanted:
                    return trial._trial_id
        return self._storage.create_new_trial(study_id, template_trial)

    def _set_trial_state_values_again(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """A trial that is in this state already was brought there by us: others would need the lock
        of the search to take it, and its claim to tell it."""
        try:
            done = self._storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            done = False
        return done or self._storage.get_trial(trial_id).state == state

    create_new_study: Any = partialmethod(_ask, "create_new_study")
    delete_study: Any = partialmethod(_ask, "delete_study")
    set_study_user_attr: Any = partialmethod(_ask, "set_study_user_attr")
    set_study_system_attr: Any = partialmethod(_ask, "set_study_system_attr")
    get_study_id_from_name: Any = partialmethod(_ask, "get_study_id_from_name")
    get_study_name_from_id: Any = partialmethod(_ask, "get_study_name_from_id")
    get_study_directions: Any = partialmethod(_ask, "get_study_directions")
    get_study_user_attrs: Any = partialmethod(_ask, "get_study_user_attrs")
    get_study_system_attrs: Any = partialmethod(_ask, "get_study_system_attrs")
    get_all_studies: Any = partialmethod(_ask, "get_all_studies")
    create_new_trial: Any = partialmethod(_ask, "create_new_trial")
    set_trial_param: Any = partialmethod(_ask, "set_trial_param")
    get_trial_id_from_study_id_trial_number: Any = partialmethod(
        _ask, "get_trial_id_from_study_id_trial_number"
    )
    set_trial_state_values: Any = partialmethod(_ask, "set_trial_state_values")
    set_trial_intermediate_value: Any = partialmethod(_ask, "set_trial_intermediate_value")
    set_trial_user_attr: Any = partialmethod(_ask, "set_trial_user_attr")
    set_trial_system_attr: Any = partialmethod(_ask, "set_trial_system_attr")
    get_trial: Any = partialmethod(_ask, "get_trial")
    get_all_trials: Any = partialmethod(_ask, "get_all_trials")
    remove_session: Any = partialmethod(_ask, "remove_session")
