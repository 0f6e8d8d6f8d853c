"""What tells one user's trainer from another, so that a run is found again for as long as its trainer is the same."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from fairtest.digests import digest_of
from fairtest.errors import SpecError
from fairtest.settings import Settings

_FIXTURE = "fairtest_trainer"
_PLAIN = (type(None), bool, int, float, str, bytes)
# A script's own functions are in __main__; seen from a process that it starts they are elsewhere.
_MAIN = ("__main__", "__mp_main__")


class _UnknownError(Exception):
    """A value that cannot be told from another one."""


def trainer_identity(trainer: object) -> dict[str, str | None]:
    """Name, digest of the source, and version of a trainer, as plain data.

    The source is that of the callable, of what it names in its own module, and of what it was made with (closures,
    bound and default arguments, attributes); what it calls elsewhere is not looked at. With an attribute `version` the
    callable's own source and the version are all that counts: whoever gives one says by it when anything else changed.

    Raises:
        SpecError: it cannot be called, or has no version and its source or something it was made with cannot be read.
    """
    if not callable(trainer):
        raise SpecError(
            f"{_FIXTURE} is {trainer!r}, which cannot be called",
            where=_FIXTURE,
            fix="return a callable (arm, units, seed, directory) -> path of a checkpoint",
        )
    version = _version(trainer)
    core = _core(trainer)
    name = f"{_module(core)}.{core.__qualname__}"
    source: Any
    try:
        source = inspect.getsource(core)
        if version is None:
            source = _Reader(_module(core)).described(trainer)
    except (OSError, TypeError) as error:
        if version is None:
            raise SpecError(
                f"the source of trainer {name} cannot be read, so nobody can tell when it changed",
                where=_FIXTURE,
                fix='give it a version, and another one whenever it changes: train.version = "1"',
            ) from error
        source = None
    except _UnknownError as error:
        raise SpecError(
            f"trainer {name} was made with {error}, and nobody can tell when that changed",
            where=_FIXTURE,
            fix='give it a version, and another one whenever it changes: train.version = "1"',
        ) from error
    return {"name": name, "source": None if source is None else digest_of(source), "version": version}


def _version(trainer: object) -> str | None:
    found = getattr(trainer, "version", None)
    if found is None and isinstance(trainer, types.MethodType):
        found = getattr(trainer.__self__, "version", None)
    if found is not None and (isinstance(found, bool) or not isinstance(found, (str, int, float))):
        raise SpecError(
            f"the version of a trainer is {found!r}", where=f"{_FIXTURE}, version", fix='give a text: "2", for example'
        )
    return None if found is None else str(found)


def _core(trainer: object) -> Any:
    """The function or class in it."""
    if isinstance(trainer, functools.partial):
        return _core(trainer.func)
    if isinstance(trainer, types.MethodType):
        return trainer.__func__
    return trainer if hasattr(trainer, "__qualname__") else type(trainer)


def _module(value: Any) -> str:
    name = getattr(value, "__module__", None) or "builtins"
    return "__main__" if name in _MAIN else str(name)


class _Reader:
    """Turns a callable and what belongs to it into plain data."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._seen: set[int] = set()
        self._statements: dict[str, dict[str, list[str]]] = {}

    def described(self, value: Any) -> Any:
        """Plain data that differs where the value does.

        Raises:
            _UnknownError: nothing is known of a value of this kind.
            OSError, TypeError: there is no source.
        """
        row: Any
        if isinstance(value, _PLAIN):
            row = [type(value).__name__, repr(value)]
        elif isinstance(value, PurePath):
            row = ["path", str(value)]
        elif isinstance(value, Settings):
            row = ["settings"]  # what of them decides a run is in its key already
        elif isinstance(value, (list, tuple)):
            row = [type(value).__name__, [self.described(item) for item in value]]
        elif isinstance(value, (set, frozenset)):
            row = ["set", sorted((self.described(item) for item in value), key=repr)]
        elif isinstance(value, Mapping):
            row = ["mapping", [[self.described(key), self.described(item)] for key, item in value.items()]]
        elif isinstance(value, types.ModuleType):
            row = ["module", value.__name__]
        elif id(value) in self._seen:
            row = ["again", getattr(value, "__qualname__", type(value).__qualname__)]
        else:
            self._seen.add(id(value))
            row = self._code(value)
        return row

    def _code(self, value: Any) -> Any:
        row: Any
        if isinstance(value, functools.partial):
            row = ["partial", *map(self.described, (value.func, value.args, value.keywords))]
        elif isinstance(value, types.MethodType):
            row = ["method", self.described(value.__func__), self.described(value.__self__)]
        elif isinstance(value, types.FunctionType):
            row = self._function(value)
        elif isinstance(value, type):
            row = self._class(value)
        elif isinstance(value, types.BuiltinFunctionType):
            row = ["elsewhere", _module(value), value.__qualname__]
        elif _module(type(value)) == self._home or dataclasses.is_dataclass(value):
            row = ["instance", self._class(type(value)), self.described(_state(value))]
        else:
            raise _UnknownError(f"a {type(value).__module__}.{type(value).__qualname__}")
        return row

    def _function(self, function: types.FunctionType) -> Any:
        name = [_module(function), function.__qualname__]
        if _module(function) != self._home:
            return ["elsewhere", *name]
        made_with = [cell.cell_contents for cell in function.__closure__ or () if not _is_empty(cell)]
        made_with += [function.__defaults__, function.__kwdefaults__]
        return [
            "function",
            *name,
            inspect.getsource(function),
            [self.described(item) for item in made_with],
            list(self._globals(function)),
        ]

    def _class(self, kind: type) -> Any:
        name = [_module(kind), kind.__qualname__]
        if _module(kind) != self._home:
            return ["elsewhere", *name]
        functions = [item for item in vars(kind).values() if isinstance(item, types.FunctionType)]
        bases = [self.described(base) for base in kind.__bases__]
        followed = [row for function in functions for row in self._globals(function)]
        return ["class", *name, inspect.getsource(kind), bases, followed]

    def _globals(self, function: types.FunctionType) -> Iterator[Any]:
        """What a function names of its own module: functions and classes, constants by their value, and other things
        (a table of options, a device, a cache) by the statement that made them.
        """
        for name in sorted(set(_names(function.__code__))):
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            if isinstance(value, (*_PLAIN, PurePath, types.FunctionType, type)):
                yield [name, self.described(value)]
            elif not isinstance(value, types.ModuleType):
                yield [name, self._assignments(function).get(name, [])]

    def _assignments(self, function: types.FunctionType) -> dict[str, list[str]]:
        """The statements at the top level of a function's module by the name that they give a value to."""
        path = function.__code__.co_filename
        if path not in self._statements:
            found: dict[str, list[str]] = {}
            self._statements[path] = found
            for node in ast.parse("".join(inspect.findsource(function)[0])).body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                for target in targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(ast.unparse(node))
        return self._statements[path]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_empty(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def _state(value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(vars(value)) if hasattr(value, "__dict__") else {}


def trainer_place(trainer: object) -> Path | None:
    """The file a trainer is written in, where that is known."""
    try:
        found = inspect.getsourcefile(_core(trainer))
    except TypeError:
        return None
    return None if found is None else Path(found)
