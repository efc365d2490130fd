"""From `_target_` in a yaml to an object, by one narrow door.

A yaml is data that may come from anywhere, so it may only name a class that (1) lives in an allowed
package, checked before anything is imported and again on the resolved class, and (2) subclasses
what its slot expects. Functions and attribute walks are refused. Packages beyond `bluestab` are
allowed by the environment variable BLUESTAB_ALLOW (comma-separated) only, never by a yaml.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from bluestab.core.errors import ConfigError, did_you_mean

T = TypeVar("T")


def allowed_packages() -> tuple[str, ...]:
    """Top-level packages whose classes a yaml may name."""
    extra = os.environ.get("BLUESTAB_ALLOW", "").split(",")
    return ("bluestab", *(name.strip() for name in extra if name.strip()))


def _is_allowed(module: str) -> bool:
    return any(module == p or module.startswith(p + ".") for p in allowed_packages())


def load_class(target: object, expects: type[T], where: str) -> type[T]:
    """The class named by `target`; ConfigError if it is not allowed, absent or of another kind."""
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(f"{where}._target_ is {target!r}: expected a dotted path to a class")
    module_name, _, class_name = target.rpartition(".")
    refusal = (
        f"{where}._target_ is '{target}', outside the allowed packages "
        f"({', '.join(allowed_packages())}); if you trust it, set BLUESTAB_ALLOW="
        f"{target.split('.')[0]}"
    )
    if not _is_allowed(module_name):
        raise ConfigError(refusal)
    if module_name.split(".")[0] != "bluestab" and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # an own technique usually lies beside the own ./conf
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module may do anything, leave the program too
        said = str(error) if isinstance(error, ImportError | SyntaxError) else repr(error)
        raise ConfigError(
            f"{where}._target_ is '{target}': cannot import {module_name} ({said})"
        ) from error
    found = vars(module).get(class_name)
    if not inspect.isclass(found):
        classes = [n for n, v in vars(module).items() if inspect.isclass(v)]
        raise ConfigError(
            f"{where}._target_ is '{target}': {module_name} has no class {class_name}"
            + did_you_mean(class_name, classes)
        )
    if not _is_allowed(found.__module__):
        raise ConfigError(
            f"{where}._target_ is '{target}', which is {found.__module__}.{found.__qualname__}, "
            f"outside the allowed packages ({', '.join(allowed_packages())})"
        )
    if not issubclass(found, expects):
        raise ConfigError(f"{where}._target_ is '{target}', which is no {expects.__name__}")
    if inspect.isabstract(found):
        raise ConfigError(f"{where}._target_ is '{target}', which is abstract: name a child of it")
    return found


def instantiate(node: Mapping[str, Any], expects: type[T], where: str) -> T:
    """Build the object a yaml node describes: `_target_` plus keyword arguments.

    Every argument must be given and none may be left over: defaults live in the yaml alone.
    """
    knobs = {key: value for key, value in node.items() if key != "_target_"}
    cls = load_class(node.get("_target_"), expects, where)
    known = set(inspect.signature(cls).parameters)
    problems = [
        f"unknown key {where}.{key}" + did_you_mean(key, known) for key in knobs if key not in known
    ]
    problems += [
        f"missing key {where}.{key} (needed by {cls.__name__})" for key in known - set(knobs)
    ]
    if problems:
        raise ConfigError(*problems)
    try:
        return cls(**knobs)
    except SystemExit as error:
        raise ConfigError(
            f"{where}: {cls.__module__}.{cls.__qualname__} left the program when it was made "
            f"(SystemExit {error.code!r}); a plug-in raises ConfigError instead"
        ) from error
