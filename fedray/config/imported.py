"""Parts of the user's own: ``package.module:name``, imported from the folder the run was started in."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from fedray.config.annotated import check_annotated, undecorated
from fedray.config.binding import bind, nearest, unknown_key
from fedray.config.hooks import check_hooks
from fedray.core.errors import ConfigError, an, listed, quoted, short

_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Imported:
    """A part that is named by its import path, with the options it is called with.

    The name stands for a function or a class that gives the part when it is called with the options as keyword
    arguments.  Those of a dataclass are checked as those of a part of fedray's own.  The object holds the name and the
    folder, never the code, so it pickles to a process that runs in another folder and imports the code there.  The
    folder comes first on ``sys.path`` while the code is imported and called, and last from then on.

    Args:
        name: ``package.module:name``.
        options: keyword arguments.
        kind: the kind of part, in the singular, for messages.
        base: the class of which the part must be an instance; None: any object.
        folder: absolute path of the folder the module is looked up in, before the installed packages.
        key: the place of the part in the config, for messages.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = field(default="part", compare=False)
    base: type | None = field(default=None, compare=False, repr=False)
    folder: str = field(default_factory=lambda: str(Path.cwd()))
    key: str = field(default="part", compare=False)

    given: ClassVar[tuple[str, ...]] = ()
    """Keyword arguments that fedray passes, if there is a parameter of that name."""

    origin: ClassVar[str] = "code of your own"
    """Words for whose code it is."""

    gives: ClassVar[str] = ""
    """Words for what the call must return; empty: by ``kind`` and ``base``."""

    @property
    def section(self) -> dict[str, Any]:
        """The section of the config that names it."""
        return {"name": self.name, **self.options}

    def check(self) -> None:
        """Import the code and compare its parameters with the options, without calling it.

        Raises:
            ConfigError: the name is malformed, module or attribute is missing, the import fails, or it takes other
                arguments.
        """
        with first_on_path(self.folder):
            self.check_arguments(self.attribute())

    def make(self, **given: Any) -> Any:
        """Call it.

        Args:
            given: arguments of fedray itself, by name; left out where there is no such parameter.

        Raises:
            ConfigError: as :meth:`check`, or the call raises or gives something else than the part.
        """
        with first_on_path(self.folder):
            attribute = self.attribute()
            if isinstance(attribute, type) and dataclasses.is_dataclass(attribute):
                made: Any = self.called(bind, attribute, self.passed(attribute), self.key)
            else:
                arguments = copy.deepcopy(self.passed(attribute))
                wanted = self.check_arguments(attribute)
                arguments |= {name: value for name, value in given.items() if name in wanted}
                made = self.called(attribute, **arguments)
        if not self.fits(made):
            expected = self.gives or f"{an(self.kind)} (fedray.parts.{getattr(self.base, '__name__', '')})"
            raise ConfigError(f"{self.key}.name: {self.name} must return {expected}, got {type(made).__name__}")
        check_hooks(type(made), self.key)
        check_annotated(type(made), self.key)
        return made

    def passed(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the options that what the name stands for is called with; a kind may carry out others itself."""
        return self.options

    def called(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function of the user's; ConfigError with the place where it raised."""
        try:
            return function(*arguments, **options)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{self.key}: {self.name} failed: {self._reason(error)}") from error

    def attribute(self) -> Callable[..., Any]:
        """Import what the name stands for; the folder must be on the path."""
        path, _, name = self.name.partition(":")
        if not all(word.isidentifier() for word in (*path.split("."), name)):
            raise ConfigError(f"{self.key}.name: {quoted(self.name)} must have the form package.module:name")
        module = self._module(path)
        if not hasattr(module, name):
            public = [other for other in vars(module) if not other.startswith("_")]
            raise ConfigError(f"{self.key}.name: module {path!r} has no {name!r}{nearest(name, public)}")
        found = getattr(module, name)
        if not self.is_maker(found):
            raise ConfigError(
                f"{self.key}.name: {self.name} is an object of type {type(found).__name__};"
                f" name a function or a class that makes the {self.kind} when called"
            )
        if isinstance(found, type):
            check_hooks(found, self.key)
            check_annotated(found, self.key)
        return found  # type: ignore[no-any-return]

    def is_maker(self, found: Any) -> bool:
        """Tell if what the name stands for can be called to make the part."""
        return callable(found) and (self.base is None or isinstance(found, type) or not isinstance(found, self.base))

    def fits(self, made: Any) -> bool:
        """Tell if an object is such a part."""
        return self.base is None or isinstance(made, self.base)

    def file(self) -> str | None:
        """Return the file that the code comes from, once it is imported."""
        module = sys.modules.get(self.name.partition(":")[0])
        return getattr(module, "__file__", None)

    def _module(self, path: str) -> ModuleType:
        from fedray.core.draws import put_back  # imports torch, for which a mistake in a section need not wait

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

    def check_arguments(self, function: Callable[..., Any], first: int = 0) -> set[str]:
        """Compare the parameters of a function with the options.

        Args:
            function: the function or class.
            first: the number of positional arguments that fedray passes.

        Returns:
            The names in ``given`` for which there is a parameter.

        Raises:
            ConfigError: an option without a parameter, or the other way round.
        """
        options = self.passed(function)
        if isinstance(function, type) and dataclasses.is_dataclass(function):
            self.called(bind, function, options, self.key)
            return set()
        try:
            parameters = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # some classes written in C tell nothing
            return set()
        for name in [name for name, parameter in parameters.items() if parameter.kind in _POSITIONAL][:first]:
            del parameters[name]
        allowed = {name: parameter for name, parameter in parameters.items() if parameter.kind in _KEYWORD}
        wanted = {name for name in self.given if name in allowed}
        for name in wanted & options.keys():
            raise ConfigError(f"{self.key}.{name}: fedray itself passes the data's {name} to {self.name}; leave it out")
        open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in options:
            if not (name in allowed or open_ended):
                known = [other for other in allowed if other not in wanted]
                takes = listed(known)
                hint, missing = nearest(name, known), undecorated(function)
                words = f"{self.name} has no such parameter"
                raise unknown_key(f"{self.key}.{short(name)}", words, hint, f"; allowed: {takes}{missing}")
        for name, parameter in parameters.items():
            has = parameter.kind in _KEYWORD and (name in options or name in wanted)
            needed = parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC
            if needed and not has:
                raise ConfigError(f"{self.key}.{name}: a value is needed by {self.name}")
        return wanted

    def _reason(self, error: BaseException) -> str:
        """Return the kind of an error, its first line, and the last place in the user's own files that it passed."""
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
        own = [f for f in frames if Path(f.filename).is_relative_to(self.folder) and "site-packages" not in f.filename]
        last = (own or frames)[-1]
        return said if isinstance(error, SyntaxError) else f"{said} ({last.filename}:{last.lineno})"


@dataclass(frozen=True)
class ImportedFunction(Imported):
    """A part that is a function, such as a loss: the name stands for the function itself, which takes the options too.

    A class that is one of ``classes`` is such a function as well; any other is called with the options and gives one.
    """

    arguments: ClassVar[int] = 1
    """The number of arguments of each call of the function, before its options."""

    classes: ClassVar[tuple[type, ...]] = ()
    """Classes that are called as the function is."""

    def check(self) -> None:
        """Import the code and compare its parameters with the options, without calling it."""
        with first_on_path(self.folder):
            found = self.attribute()
            self.check_arguments(found, 0 if self._gives_one(found) else self.arguments)

    def make(self, **given: Any) -> Any:
        """Return what a dataclass gives, and else this object, which calls the function and pickles by its name."""
        with first_on_path(self.folder):
            found = self.attribute()
        return self.function if isinstance(found, type) and dataclasses.is_dataclass(found) else self

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self.function(*arguments)

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        """The function, imported in this process."""
        with first_on_path(self.folder):
            found = self.attribute()
            if not self._gives_one(found):
                return functools.partial(found, **self.options) if self.options else found
            if dataclasses.is_dataclass(found):
                return self.called(bind, found, self.options, self.key)  # type: ignore[no-any-return]
            return self.called(found, **copy.deepcopy(self.options))  # type: ignore[no-any-return]

    def _gives_one(self, found: Any) -> bool:
        return isinstance(found, type) and not issubclass(found, self.classes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "function"}


def made(part: Any) -> Any:
    """Return the part itself, made if it is named by its import path."""
    return part.make() if isinstance(part, Imported) else part


def imported_in(part: Any) -> Iterator[Imported]:
    """Find the parts that are named by their import path in a part, its options included."""
    if isinstance(part, Imported):
        yield part
        yield from imported_in(part.options)
    elif dataclasses.is_dataclass(part):
        yield from imported_in(vars(part))
    elif isinstance(part, Mapping):
        if isinstance(part.get("name"), str) and ":" in part["name"]:
            yield Imported(part["name"])
        for value in part.values():
            yield from imported_in(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from imported_in(value)


@contextmanager
def first_on_path(folder: str) -> Iterator[None]:
    """Look modules up in a folder first, for the length of the context; afterwards they are looked up there last."""
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # the file may have been written a moment ago, as in a notebook
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's module may have taken it off
            sys.path.remove(folder)
        # What the code imports later, inside a function, is found as well.
        if folder not in sys.path:
            sys.path.append(folder)
