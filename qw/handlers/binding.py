"""How a payload becomes the arguments of a function, and which functions can be handlers.

An unsuitable function is rejected when the program is imported, not when its first task runs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticSerializationError, SchemaValidator

from qw.core.errors import Fault, Invalid
from qw.core.task.handler_api import Misfit, Reject
from qw.core.task.payload import JsonObject

Arguments: TypeAlias = Callable[[Any], dict[str, Any]]  # takes a Context or BlockingContext
Bind: TypeAlias = Callable[[JsonObject], dict[str, Any]]
Dump: TypeAlias = Callable[[dict[str, Any]], JsonObject]


class Binding(NamedTuple):
    """``arguments`` makes the keyword arguments of a function from a context; ``payload`` is its inverse.

    ``payload`` takes the arguments of a call, without the context. It raises TypeError for arguments that the
    signature does not accept, and Invalid for values that do not validate or cannot be stored. ``schema`` is the JSON
    Schema of the payload, None if any payload is accepted.
    """

    arguments: Arguments
    payload: Callable[..., JsonObject]
    schema: JsonObject | None


CONTEXT = "context"
_Parameter = inspect.Parameter


def binding(type: str, function: Callable[..., Any]) -> Binding:
    """Return how payloads become the arguments of *function*. Raise Invalid if it cannot be a handler."""
    _refuse_what_would_not_run(type, function)
    parameters = _parameters(type, function)
    wants_context = parameters.pop(CONTEXT, None) is not None
    bind, dump, schema = _payload_binding(type, function, parameters)
    if any(parameter.kind is _Parameter.VAR_KEYWORD for parameter in parameters.values()):
        bind = _without_clashes(bind, _taken_names(function, wants_context=wants_context))
    payload = _payload_of_call(type, function, dump, parameters)
    if not wants_context:
        return Binding(lambda context: bind(context.payload), payload, schema)
    return Binding(lambda context: {CONTEXT: context, **bind(context.payload)}, payload, schema)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call is known to return a coroutine. Looks inside partials and at the ``__call__`` of objects."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(code_of(function))


def takes_context(function: Callable[..., Any]) -> bool:
    return CONTEXT in inspect.signature(function).parameters


def name_of(function: object) -> str:
    return str(getattr(code_of(function), "__qualname__", None) or repr(function))


def code_of(function: object) -> Any:
    """Return the function that a call runs first: in a partial, a static method, or an object with ``__call__``."""
    while isinstance(function, (functools.partial, staticmethod)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004


def refuse(type: str, function: object, why: str) -> Invalid:
    return Invalid(f"handler of the type {type!r}: {name_of(function)} {why}")


def _refuse_what_would_not_run(type: str, function: Callable[..., Any]) -> None:
    code = code_of(function)
    if not callable(function):
        raise refuse(type, function, "cannot be called")
    if inspect.isclass(code):
        raise refuse(type, function, "is a class; register a function, or an object with __call__")
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise refuse(type, function, "is a generator function; use a function that returns its result")


def _parameters(type: str, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be passed by name. ``*args`` and optional positional-only ones are ignored."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise refuse(type, function, f"has a signature that cannot be read: {error}") from None
    named: dict[str, inspect.Parameter] = {}
    for name, parameter in parameters.items():
        is_variable = parameter.kind in (_Parameter.VAR_KEYWORD, _Parameter.VAR_POSITIONAL)
        if name == CONTEXT and (is_variable or parameter.kind is _Parameter.POSITIONAL_ONLY):
            raise refuse(type, function, "must accept its parameter 'context' by keyword")
        if parameter.kind is _Parameter.POSITIONAL_ONLY and parameter.default is _Parameter.empty:
            raise refuse(
                type, function, f"has the positional-only parameter {name!r}; payloads are passed as keyword arguments"
            )
        if parameter.kind not in (_Parameter.POSITIONAL_ONLY, _Parameter.VAR_POSITIONAL):
            named[name] = parameter
    return named


def _taken_names(function: Callable[..., Any], *, wants_context: bool) -> frozenset[str]:
    """Return the names that ``**kwargs`` cannot contain: ``context`` if used, and a bound method's ``self``."""
    names = {CONTEXT} if wants_context else set()
    code = code_of(function)
    if inspect.ismethod(code) or code is not function:
        first = next(iter(inspect.signature(getattr(code, "__func__", code)).parameters.values()), None)
        is_bound = inspect.ismethod(code) or not isinstance(function, (functools.partial, staticmethod))
        if is_bound and first is not None and first.kind is _Parameter.POSITIONAL_OR_KEYWORD:
            names.add(first.name)
    return frozenset(names)


def _without_clashes(bind: Bind, taken: frozenset[str]) -> Bind:
    def checked(payload: JsonObject) -> dict[str, Any]:
        if clash := sorted(taken & payload.keys()):
            raise Reject(f"the payload has the key {clash[0]!r}, which the handler has as a parameter of its own")
        return bind(payload)

    return checked if taken else bind


def _payload_binding(
    type: str, function: Callable[..., Any], parameters: dict[str, inspect.Parameter]
) -> tuple[Bind, Dump, JsonObject | None]:
    if not parameters:
        return lambda payload: {}, lambda given: {}, None
    hints = hints_of(type, function)
    name, first = next(iter(parameters.items()))
    if len(parameters) == 1 and first.kind is not _Parameter.VAR_KEYWORD:
        model = hints.get(name)
        if inspect.isclass(model) and issubclass(model, BaseModel):
            dump_model = _model_dump(type, name, model, first.default)
            return lambda payload: {name: _validate(model, payload)}, dump_model, _schema(type, function, model)
        if name == "payload":
            return lambda payload: {"payload": payload}, lambda given: given.get(name, {}), None
    keywords, names = _keyword_model(type, parameters, hints)
    dump = _keyword_dump(type, keywords, names)
    validate = _fields_validator(keywords)

    def bind(payload: JsonObject) -> dict[str, Any]:
        try:
            values, extra, _ = validate(payload)
        except ValidationError as error:
            raise _misfit(keywords, error) from None
        if names:
            values = {names.get(field, field): value for field, value in values.items()}
        return {**values, **extra} if extra else values

    return bind, dump, _schema(type, function, keywords)


def hints_of(type: str, function: Callable[..., Any]) -> dict[str, Any]:
    code = code_of(function)
    try:
        return get_type_hints(getattr(code, "__func__", code), include_extras=True)
    except Exception as error:  # an undefined name, or any error raised by evaluating an annotation
        raise refuse(type, function, f"has an annotation that cannot be resolved: {error}") from error


def _schema(type: str, function: Callable[..., Any], model: Any) -> JsonObject | None:
    try:
        schema: JsonObject = model.model_json_schema()
    except Exception as error:
        raise refuse(type, function, f"has an annotation that JSON cannot represent: {error}") from error
    return schema


def _keyword_model(
    title: str, parameters: dict[str, inspect.Parameter], hints: dict[str, Any]
) -> tuple[Any, Mapping[str, str]]:
    """Return a model of the parameters, and a map from field to parameter name for those whose names differ.

    A field cannot be called ``_id``, nor have the name of a model's method (``json``, ``copy``), but its alias can.
    """
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    extra = "forbid"
    for number, (name, parameter) in enumerate(parameters.items()):
        if parameter.kind is _Parameter.VAR_KEYWORD:
            extra = "allow"
            continue
        default = ... if parameter.default is _Parameter.empty else parameter.default
        hint = hints.get(name, Any)
        if name.startswith("_") or hasattr(BaseModel, name):
            names[f"field_{number}"] = name
            fields[f"field_{number}"] = (hint, Field(default, alias=name))
        else:
            fields[name] = (hint, default)
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=(), ser_json_inf_nan="strings")  # type: ignore[typeddict-item]
    return create_model(title, __config__=config, **fields), names


def _fields_validator(model: type[BaseModel]) -> Callable[[object], tuple[dict[str, Any], dict[str, Any] | None, Any]]:
    """Return a function that validates the fields of *model* and returns the declared and the extra ones.

    It creates no instance of the model, which takes four fifths of the time of a validation.
    """
    schema: Any = model.__pydantic_core_schema__
    outer = schema["schema"] if schema["type"] == "definitions" else schema
    fields, config = outer["schema"], outer["config"]
    if schema["type"] == "definitions":
        fields = {**schema, "schema": fields}
    return SchemaValidator(fields, config).validate_python


def _validate(model: Any, payload: JsonObject) -> Any:
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise _misfit(model, error) from None


def _misfit(model: Any, error: ValidationError) -> Misfit:
    return Misfit(f"payload of {model.__name__}: {_faults(error)}")


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'payload'}: {fault['msg']}" for fault in error.errors(include_url=False)
    )


def _payload_of_call(
    type: str, function: Callable[..., Any], dump: Dump, parameters: Mapping[str, inspect.Parameter]
) -> Callable[..., JsonObject]:
    """Return a function that makes the payload from the arguments of a call. Omitted arguments are left out of the
    payload, so that the handler's defaults apply.
    """
    signature = inspect.signature(function)
    signature = signature.replace(parameters=[each for name, each in signature.parameters.items() if name != CONTEXT])
    rest = next((name for name, each in parameters.items() if each.kind is _Parameter.VAR_KEYWORD), None)
    takes_context_too = takes_context(function)

    def payload(*args: Any, **kwargs: Any) -> JsonObject:
        if takes_context_too and CONTEXT in kwargs:
            raise TypeError(f"{type}: the argument 'context' is given by the worker that runs the task")
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{type}: {error}") from None
        if unnamed := arguments.keys() - parameters.keys():
            raise TypeError(f"{type}: {min(unnamed)!r} takes positional arguments only, and a payload has names")
        others = arguments.pop(rest, {}) if rest else {}
        return dump({**arguments, **others})

    return payload


def _model_dump(type: str, name: str, model: Any, default: object) -> Dump:
    """Return the dump function for a single model that is the whole payload."""

    def dump(arguments: dict[str, Any]) -> JsonObject:
        try:
            return _json(model.model_validate(arguments.get(name, default)))
        except ValidationError as error:
            raise _invalid(type, error, name) from None
        except PydanticSerializationError as error:
            raise _not_storable(type, name, error) from None

    return dump


def _keyword_dump(type: str, model: Any, names: Mapping[str, str]) -> Dump:
    fields = {name: field for field, name in names.items()}

    def dump(given: dict[str, Any]) -> JsonObject:
        try:
            checked = model.model_validate(given)
        except ValidationError as error:
            raise _invalid(type, error) from None
        try:
            return _json(checked, include={fields.get(name, name) for name in given})
        except PydanticSerializationError:
            raise _not_storable(type, *_unwritable(checked, fields, given)) from None

    return dump


def _unwritable(checked: BaseModel, fields: Mapping[str, str], given: dict[str, Any]) -> tuple[str, Exception]:
    """Return the first argument that cannot be serialized, and the error."""
    for name in given:
        try:
            _json(checked, include={fields.get(name, name)})
        except PydanticSerializationError as error:
            return name, error
    raise AssertionError("each argument can be written, but not all of them")


def _json(value: BaseModel, *, include: set[str] | None = None) -> JsonObject:
    """Return *value* as JSON that validates to the same value again."""
    return value.model_dump(mode="json", include=include, by_alias=True, round_trip=True, warnings="error")


def _invalid(type: str, error: ValidationError, *place: str) -> Invalid:
    return Invalid(
        *(
            Fault(path=".".join([type, *place, *map(str, fault["loc"])]), message=fault["msg"])
            for fault in error.errors(include_url=False)
        )
    )


def _not_storable(type: str, name: str, error: Exception) -> Invalid:
    return Invalid(Fault(path=f"{type}.{name}", message=f"cannot be stored as JSON: {error}"))
