"""Plug-ins from configuration: a constructor's signature is its schema, a plug-in's source is part of its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from .errors import ConfigError, IncompatibleError, LeakGaugeError
from .registry import Registry, nearest


def build(registry: Registry, name: str, parameters: Mapping[str, Any], *, where: str) -> Any:
    """The plug-in `name` with `parameters`. A class is constructed; a ready object takes no parameters.

    Every mistake is a `ConfigError` that names `where.key`, the value seen and what was expected.
    """
    plug = registry.load(name)
    if not inspect.isclass(plug):
        if parameters:
            raise ConfigError(f"{where}: {name!r} is a ready object and takes no keys, got {sorted(parameters)[0]!r}")
        return plug
    return construct(plug, parameters, where=where)


def construct(plug: type[Any], parameters: Mapping[str, Any], *, where: str) -> Any:
    """`plug(**parameters)` after checking names and types against the constructor's signature."""
    signature = inspect.signature(plug)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    hints = typing.get_type_hints(plug if dataclasses.is_dataclass(plug) else plug.__init__)
    checked: dict[str, Any] = {}
    for key, value in parameters.items():
        if key not in signature.parameters and not takes_any:
            raise ConfigError(f"unknown key '{where}.{key}'{nearest(key, list(signature.parameters))}")
        checked[key] = _coerce(hints.get(key, Any), value, f"{where}.{key}")
    for key, parameter in signature.parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind not in {
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        }
        if required and key not in checked:
            raise ConfigError(f"missing key '{where}.{key}'")
    try:
        return plug(**checked)
    except LeakGaugeError as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _coerce(hint: Any, value: Any, where: str) -> Any:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, TypeError, ValueError):
        try:
            adapter = TypeAdapter(hint)
        except PydanticSchemaGenerationError:
            return value
    except Exception as error:
        if "already have" not in str(error) and "type-adapter-config-unused" not in str(error):
            raise
        adapter = TypeAdapter(hint)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ConfigError(f"{where}: {message[0].lower()}{message[1:]} (got {value!r})") from None


def spec_of(plug: Any) -> dict[str, Any]:
    """All that shapes what the plug-in makes, as plain values: its dataclass fields, else its public attributes."""
    if dataclasses.is_dataclass(plug) and not isinstance(plug, type):
        return {f.name: _plain(getattr(plug, f.name)) for f in dataclasses.fields(plug)}
    return (
        {k: _plain(v) for k, v in sorted(vars(plug).items()) if not k.startswith("_")}
        if hasattr(plug, "__dict__")
        else {}
    )


def identity_of(plug: Any) -> dict[str, Any]:
    """What a stored artifact must agree with: class, spec, and the version or source it came from.

    Our own plug-ins carry a `version` that is raised when the same spec would give another model; for anything
    else the source text of its module stands in, so that an edited trainer never reuses old models. A plug-in that
    starts from files, such as pretrained weights, gives their digests by a method `outside`.
    """
    kind = type(plug)
    version = getattr(plug, "version", None)
    if version is None or not kind.__module__.startswith("leakgauge."):
        version = _source_digest(kind)
    own = {"class": f"{kind.__module__}:{kind.__qualname__}", "spec": spec_of(plug), "version": str(version)}
    outside = getattr(plug, "outside", None)
    files = outside() if callable(outside) else {}
    return own | ({"outside": files} if files else {})


def _source_digest(kind: type[Any]) -> str:
    try:
        text = inspect.getsource(sys.modules[kind.__module__])
    except (OSError, KeyError, TypeError) as error:
        raise IncompatibleError(
            f"{kind.__module__}:{kind.__qualname__} has no readable source, so its models could not be told from "
            f"those of an edited version: put it in a file ({error})"
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)
