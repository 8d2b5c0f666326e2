"""Options of commands as data. Typer's options are made from them when typer is used; plain ones are parsed without it.

Importing typer takes as long as everything else in `promoter run`. So `parse_plain` parses only what is unambiguous.
Typer handles the rest: shortened and joined options, help, and missing or invalid arguments.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

from promoter_core import ConfigError
from promoter_core.cli import session

Function = Callable[..., Any]

PLAIN = {"envvar", "help", "metavar", "show_default"}  # arguments of an option that do not affect its values
NUMBERS = {int: re.compile("0|[1-9][0-9]{0,15}"), float: re.compile("(0|[1-9][0-9]{0,9})([.][0-9]{1,9})?")}


class Declared:
    """In an annotation: `Annotated[str, Option("--name", help="…")]`.

    The arguments are those of typer's class of that name.
    """

    def __init__(self, *names: str, **more: Any) -> None:
        self.names = names
        self.more = more


class Option(Declared):
    """An option of a command."""


class ConfigFile(Option):
    """An option that names a file. `read(path, known)` returns its values by the names of options."""

    def __init__(self, *names: str, read: Callable[[str, Mapping[str, Known]], dict[str, Any]], **more: Any) -> None:
        super().__init__(*names, **more)
        self.read = read


class TyperOnly(Option):
    """A flag that typer has to handle."""


class Argument(Declared):
    """A positional argument of a command."""


def for_typer(function: Function) -> Function:
    """Return the function with typer's options instead of ours."""
    import typer

    hints = typing.get_type_hints(function, include_extras=True)
    for name, hint in hints.items():
        kind, declared = _declared(hint)
        if declared is not None:
            make: Any = typer.Option if isinstance(declared, Option) else typer.Argument
            more = dict(declared.more)
            if isinstance(declared, ConfigFile):  # eager: read before the defaults are looked up
                more |= {"callback": _from_file(declared, function), "is_eager": True}
            hints[name] = Annotated[kind, make(*declared.names, **more)]

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    signature = inspect.signature(function)
    parameters = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]
    command.__annotations__ = hints
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _from_file(declared: ConfigFile, function: Function) -> Function:
    """Insert the file's values between the environment and the defaults, where typer looks for them."""

    def use(ctx: Any, path: Any) -> Any:
        session.source_of = ctx.get_parameter_source
        if path is not None and not ctx.resilient_parsing:
            ctx.default_map = declared.read(path, options_of(function))
        return path

    return use


def options_of(function: Function) -> dict[str, Known]:
    """Return the options of a command's function, by parameter name."""
    hints = typing.get_type_hints(function, include_extras=True)
    return {name: Known(hints[name]) for name in inspect.signature(function).parameters}


def parse_plain(function: Function, words: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments for `function`, as typer would parse them; None if they are not unambiguous."""
    try:
        return _parse(function, words, environ)
    except _NotPlain:
        return None


class _NotPlain(Exception):
    pass


def _parse(function: Function, words: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    known = options_of(function)
    flags, texts = _read(words, known)
    stored = _stored(texts, known, environ)
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        option = known[name]
        in_environment = environ.get(option.variable)
        if name in flags:
            values[name] = flags[name]
        elif name in texts or in_environment:
            values[name] = option.value(texts.get(name) or option.split(in_environment or ""))
        elif name in stored:
            value = stored[name]
            values[name] = option.kind(value) if issubclass(option.kind, Enum) else value
        else:
            values[name] = parameter.default
            _sure(parameter.default is not inspect.Parameter.empty)
    return values


def _stored(texts: Mapping[str, list[str]], known: Mapping[str, Known], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the configuration file, if any. Typer reports the error of an invalid file."""
    for name, option in known.items():
        path = texts.get(name, [environ.get(option.variable, "")])[0]
        if isinstance(option.declared, ConfigFile) and (path or name in texts):
            try:
                return option.declared.read(path, known)
            except ConfigError:
                raise _NotPlain from None
    return {}


def _read(words: Sequence[str], known: Mapping[str, Known]) -> tuple[dict[str, bool], dict[str, list[str]]]:
    """Return the flags in the words, and the text values of the other options."""
    meant = {word: (name, on) for name, option in known.items() for word, on in option.words.items()}
    flags: dict[str, bool] = {}
    texts: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        start, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
        _sure(start in meant)
        name, on = meant[start]
        _sure(not isinstance(known[name].declared, TyperOnly))
        if known[name].kind is bool:
            _sure(not equals and name not in flags)
            flags[name] = on
            continue
        if not equals:
            text = next(rest, "-")
            _sure(not text.startswith("-"))
        _sure(known[name].many or name not in texts)
        texts.setdefault(name, []).append(text)
    return flags, texts


class Known:
    """An option: its words, and how its values are parsed."""

    def __init__(self, hint: Any) -> None:
        kind, option = _declared(hint)
        self.declared = option
        self.words: dict[str, bool] = {}  # False for the flag's negative form
        self.variable = ""
        if isinstance(option, Option):
            _sure(option.names and option.more.keys() <= PLAIN)
            for name in option.names:
                on, _, off = name.partition("/")
                self.words |= {on: True} | ({off: False} if off else {})
            self.variable = option.more.get("envvar", "")
        else:
            _sure(option is None)
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
        self.many = typing.get_origin(kind) is list
        self.kind: Any = typing.get_args(kind)[0] if self.many else kind

    def split(self, text: str) -> list[str]:
        """Split the value of the environment variable."""
        _sure(self.kind is not bool)
        return text.split() if self.many else [text]

    def value(self, texts: list[str]) -> Any:
        _sure(texts)
        values = [self._one(text) for text in texts]
        return values if self.many else values[0]

    def _one(self, text: str) -> Any:
        if self.kind is str:
            _sure(text.isprintable())  # a printable text has no undecodable bytes
            return text
        if issubclass(self.kind, Enum):
            _sure(text in [member.value for member in self.kind])
        else:
            _sure(self.kind in NUMBERS and NUMBERS[self.kind].fullmatch(text))
        return self.kind(text)


def _declared(hint: Any) -> tuple[Any, Declared | None]:
    """Return the type in an annotation, and our part of it."""
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    kind, *more = typing.get_args(hint)
    return kind, next((part for part in more if isinstance(part, Declared)), None)


def _sure(condition: object) -> None:
    if not condition:
        raise _NotPlain
