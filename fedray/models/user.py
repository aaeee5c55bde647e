"""A model of the user's own: ``package.module:factory``, imported from the folder the run was started in."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fedray.config.registry import nearest
from fedray.core.draws import put_back
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec

_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class UserModel:
    """A factory named by its import path, called with the options as keyword arguments.

    The factory is a function or a class; if it has a parameter ``spec`` it is given the :class:`DataSpec`.  The
    object holds the name and the folder, never the code, so it pickles to a process that runs in another folder and
    imports the factory there.  The folder is on ``sys.path`` only while the factory is imported and called.

    Args:
        name: ``package.module:factory``.
        options: keyword arguments of the factory.
        folder: absolute path of the folder the module is looked up in, before the installed packages.
        key: where the model stands in the config, for messages.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    folder: str = field(default_factory=lambda: str(Path.cwd()))
    key: str = field(default="model", compare=False)

    def check(self) -> None:
        """Imports the factory and compares its parameters with the options, without calling it.

        Raises:
            ConfigError: the name is malformed, module or factory is missing, the import fails, or the factory takes
                other arguments.
        """
        with _first_on_path(self.folder):
            self._check_arguments(self._factory())

    def build(self, spec: DataSpec) -> nn.Module:
        """What the factory returns.

        Raises:
            ConfigError: as :meth:`check`, or the factory raises or returns something else than an ``nn.Module``.
        """
        with _first_on_path(self.folder):
            factory = self._factory()
            arguments = copy.deepcopy(self.options)
            if self._check_arguments(factory):
                arguments["spec"] = spec
            try:
                module = factory(**arguments)
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(f"{self.key}: {self.name} failed: {self._reason(error)}") from error
        if not isinstance(module, nn.Module):
            got = type(module).__name__
            raise ConfigError(f"{self.key}.name: {self.name} must return a torch.nn.Module, got {got}")
        return module

    def _factory(self) -> Callable[..., Any]:
        path, _, attribute = self.name.partition(":")
        if not all(word.isidentifier() for word in (*path.split("."), attribute)):
            raise ConfigError(f"{self.key}.name: {self.name!r} must have the form package.module:factory")
        module = self._module(path)
        if not hasattr(module, attribute):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise ConfigError(f"{self.key}.name: module {path!r} has no {attribute!r}{nearest(attribute, public)}")
        factory = getattr(module, attribute)
        if isinstance(factory, nn.Module) or not callable(factory):
            got = type(factory).__name__
            raise ConfigError(
                f"{self.key}.name: {self.name} is an object of type {got};"
                " name a function or a class that makes the model when called"
            )
        return factory  # type: ignore[no-any-return]

    def _module(self, path: str) -> ModuleType:
        try:
            # A module that draws while it is imported must not move the draws of the build that imports it first.
            with put_back():
                module = importlib.import_module(path)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
                where = f"{self.folder} or the installed packages"
                raise ConfigError(f"{self.key}.name: no module {error.name!r} in {where}") from None
            raise ConfigError(f"{self.key}.name: importing {path!r} failed: {self._reason(error)}") from error
        # Another module of this name may have been imported before; training it by mistake would go unnoticed.
        stem = Path(self.folder, *path.split("."))
        here = [file for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if file.is_file()]
        origin = getattr(module, "__file__", None)
        if here and not (origin and any(file.samefile(origin) for file in here)):
            raise ConfigError(
                f"{self.key}.name: {path!r} was imported from {origin}, which hides {here[0]};"
                " rename your module, or start a new process"
            )
        return module

    def _check_arguments(self, factory: Callable[..., Any]) -> bool:
        """Whether the factory wants ``spec``; ConfigError if its parameters and the options differ."""
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):  # some classes written in C tell nothing
            return False
        allowed = {name: parameter for name, parameter in parameters.items() if parameter.kind in _KEYWORD}
        wants_spec = "spec" in allowed
        if wants_spec and "spec" in self.options:
            raise ConfigError(f"{self.key}.spec: fedray itself passes the data's spec to {self.name}; leave it out")
        open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in self.options:
            if not (name in allowed or open_ended):
                known = [other for other in allowed if other != "spec"]
                takes = ", ".join(known) or "(none)"
                hint = nearest(name, known)
                raise ConfigError(f"{self.key}.{name}: {self.name} has no such parameter{hint}; allowed: {takes}")
        for name, parameter in parameters.items():
            given = parameter.kind in _KEYWORD and (name in self.options or name == "spec")
            needed = parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC
            if needed and not given:
                raise ConfigError(f"{self.key}.{name}: a value is needed by {self.name}")
        return wants_spec

    def _reason(self, error: BaseException) -> str:
        """One line: kind of error, its first line, and the last place in the user's own files that it went through."""
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
        own = [f for f in frames if Path(f.filename).is_relative_to(self.folder) and "site-packages" not in f.filename]
        last = (own or frames)[-1]
        return said if isinstance(error, SyntaxError) else f"{said} ({last.filename}:{last.lineno})"


@contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # the file may have been written a moment ago, as in a notebook
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's module may have taken it off
            sys.path.remove(folder)
