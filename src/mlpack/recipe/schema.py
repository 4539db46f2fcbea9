"""The recipe's keys as typed models. Imported when a recipe is read or its schema written, never before: it needs
pydantic.

Promises: every key, its type, default and meaning stand here once; the checks, the JSON Schema and the reference page
are all made from these models. Values are read strictly (no "yes" for true, no "3" for 3). What depends on more than
one key, on files or on the tables of passes and targets is checked by `recipe`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, ValidationError, WithJsonSchema, create_model  # noqa: TID253

from mlpack.core.entrypoint import suggestion
from mlpack.core.sizes import AUTO
from mlpack.core.text.quantities import MILLISECONDS, share_of
from mlpack.recipe.branches import merged
from mlpack.recipe.budget_keys import BudgetKeys
from mlpack.recipe.deploy.keys import DeployKeys
from mlpack.recipe.serve_keys import ServeKeys
from mlpack.recipe.units import NAME, Keys, Name, Text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

VARIANT_MOST = 128
"""Letters of a variant's name: a candidate's id, which also names its target, is the name of a directory (255 bytes)."""
PREFERENCES = ("cost", "latency", "size", "accuracy")
Dtype = Literal[
    "float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "string",
]  # fmt: skip
DTYPES = get_args(Dtype)

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls an unknown key, of a model and of a dataclass."""


def _axis(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII):
        return value
    raise ValueError("an axis is a length of at least 1, or a name for one that may vary (such as batch)")


Axis = Annotated[
    int | str,
    PlainValidator(_axis),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "pattern": r"^[A-Za-z_]\w*$"}),
]
Free = Annotated[Any, WithJsonSchema({})]


class SourceKeys(Keys):
    """Where the model comes from: exactly one of onnx, huggingface, torch, sklearn, xgboost and lightgbm."""

    onnx: Text | None = Field(default=None, description="an ONNX file; external data beside it comes along")
    huggingface: Text | None = Field(default=None, description="a Hugging Face model directory (config.json, safetensors)")
    torch: Text | None = Field(default=None, description="`module:function` that takes nothing and returns an `nn.Module`")
    sklearn: Text | None = Field(default=None, description="`module:function` that takes nothing and returns a fitted estimator")
    xgboost: Text | None = Field(default=None, description="a model of XGBoost's own formats, .json or .ubj")
    lightgbm: Text | None = Field(default=None, description="a model of LightGBM's own format, .txt")
    weights: Text | None = Field(
        default=None,
        description="for torch: a safetensors file (or a state_dict, read without pickle); for sklearn: the file beside the code "
        "that the function reads",
    )
    task: Text | None = Field(default=None, description="for huggingface: the task [what the architecture's name stands for]")


class InputKeys(Keys):
    """One input of the model."""

    dtype: Dtype = Field(default="float32", description="numpy's name for the element type")
    shape: tuple[Axis, ...] = Field(description="the axes: a length, or a name for one that may vary")


class HeldOutKeys(Keys):
    """A share of the evaluation data that is kept for calibration."""

    held_out: Annotated[float, Field(gt=0, lt=1)] = Field(description="the share, between 0 and 1")


def _calibration(value: Any) -> str | HeldOutKeys:
    """One problem in one place, where a union would give one for each of its kinds."""
    if isinstance(value, str) and value:
        return value
    share = value.get("held_out") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < 1:
        return HeldOutKeys(held_out=float(share))
    if isinstance(value, dict) and value.keys() == {"held_out"}:
        raise ValueError("held_out is a share between 0 and 1, such as {held_out: 0.2}")
    raise ValueError("must be data as for evaluation, {held_out: 0.2}, none or random")


Calibration = Annotated[
    str | HeldOutKeys,
    PlainValidator(_calibration),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, HeldOutKeys.model_json_schema()]}),
]


class DataKeys(Keys):
    """What the model is judged by, and what quantizers may look at."""

    evaluation: Text = Field(description="an .npz file, a .jsonl file of texts, or `module:function`")
    calibration: Calibration | None = Field(
        default=None,
        description="data in the same forms, for static int8 and for batch normalisation after pruning; may not overlap evaluation."
        " Or `{held_out: 0.3}`: this share of the evaluation data, on which no candidate is then judged [0.2 where a step needs "
        "it]; `none`: nothing calibrates; `random`: invented data, which allow no budget on accuracy",
    )


class MetricKeys(Keys):
    """A metric with what it reads. A bare name is short for `{name: ...}`."""

    name: Text = Field(description="a metric of the table, or `module:function`")
    output: Text | None = Field(default=None, description="the output to read; required where more than one could be meant")
    column: Annotated[int, Field(ge=0)] | None = Field(default=None, description="the column of the output's last axis, from 0")
    threshold: float | None = Field(
        default=None,
        description="a single column above it means class 1 (0.5 for a probability, 0 for a logit). For boxes without labels: the "
        "score from which the float's own boxes count as the truth",
    )
    classes: Annotated[tuple[int | str, ...], Field(min_length=1)] | None = Field(
        default=None, description="the labels that the columns stand for, in their order: `[1, 2, 3]`, `[no, yes]`"
    )
    ignore_index: int | None = Field(
        default=None, description="the label to leave out: of tokens (-100 by default) or of a map's pixels (255 by default)"
    )
    k: Annotated[int, Field(ge=1)] | None = Field(default=None, description="the number of nearest neighbours that count")
    iou: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, description="the least overlap of a box that is right")
    decode: Text | None = Field(
        default=None,
        description="`module:function`: from a call's outputs to the boxes, scores and classes of each picture",
    )


def _metric(value: Any) -> Any:
    """A bare name as the keys that it is short for. Lists become tuples: after this, pydantic takes values for Python's."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return value


class SearchKeys(Keys):
    """How long a build looks for the best forms of quantized candidates that miss a budget, all together. `off`: `{minutes: 0}`."""

    minutes: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="after this time no new form is begun; 0: no search [3 times the float's build, 20 s to 5 min]"
    )


def _search(value: Any) -> Any:
    """`off` as the keys that it is short for."""
    return {"minutes": 0} if value == "off" or value is False else value


class RecipeKeys(Keys):
    """A recipe. Relative paths are relative to the recipe's own directory."""

    name: Name = Field(description=f"the model's name: `{NAME}`")
    source: SourceKeys = Field(description="where the model comes from: exactly one kind of source")
    inputs: dict[Text, InputKeys] = Field(
        default_factory=dict,
        description="the model's inputs: required for torch, in the factory's positional order, and for sklearn, in the order of "
        "the columns; else read from the model, where they may fix axes that it leaves open",
    )
    data: DataKeys = Field(description="what the model is judged by, and what quantizers may look at")
    metric: Annotated[MetricKeys, BeforeValidator(_metric)] | None = Field(
        default=None, description="a metric's name, `module:function`, or its keys; fidelity when left out"
    )
    variants: Free = Field(default="auto", description="`auto`, or named chains of steps")
    targets: Free = Field(description="where the model will run: targets by name, each with its keys or a list of such mappings")
    budgets: BudgetKeys = Field(default_factory=BudgetKeys, description="hard limits; a key left out is no limit")
    prefer: Literal["cost", "latency", "size", "accuracy"] = Field(
        default="cost", description="what decides among the candidates within all budgets"
    )
    search: Annotated[SearchKeys, BeforeValidator(_search)] = Field(
        default_factory=SearchKeys, description="`off`, or how long to search for forms between int8 and float"
    )
    serve: ServeKeys = Field(default_factory=ServeKeys, description="hooks, tokenizer and a sample request of the package")
    accept_licenses: tuple[Text, ...] = Field(
        default=(), description="names of the licences that the team has read and accepts, of files that a package redistributes"
    )
    tags: dict[Text, Text] = Field(default_factory=dict, description="carried into the release: service, team, env, ...")
    deploy: DeployKeys | None = Field(default=None, description="how the package is deployed: no part of a build or of its digest")


def field_docs(config: type) -> dict[str, str]:
    """What the string after each field of a class says, read from its source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    except (OSError, TypeError, SyntaxError):  # of a plug-in's class there may be no source
        return {}
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for field, after in pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            docs[field.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return docs


def keys_of(config: type, hidden: tuple[str, ...], *, documented: bool = False) -> type[Keys]:
    """The model of a pass's or target's config dataclass: its fields, types and defaults, without the hidden ones.

    `documented`: with what the class says of each field, for the schema; reading recipes needs none of that.
    """
    hints = get_type_hints(config, include_extras=True)
    docs = field_docs(config) if documented else {}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if field.name in hidden or not field.init:
            continue
        default: dict[str, Any] = {}
        if field.default is not dataclasses.MISSING:
            default["default"] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default["default_factory"] = field.default_factory
        fields[field.name] = (hints[field.name], Field(description=docs.get(field.name), **default))
    return create_model(config.__name__, __base__=Keys, __doc__=config.__doc__, **fields)


def json_schema(steps: Mapping[str, type[Keys]], targets: Mapping[str, type[Keys]], shorts: Mapping[str, str]) -> dict[str, Any]:
    """The whole schema (JSON Schema 2020-12), for editors: the keys above with every pass and every target written out, or those
    of a recipe of built packages. `shorts`: for a pass, the field that a bare value means.
    """
    from mlpack.recipe.serve.models import ModelsKeys

    whole = RecipeKeys.model_json_schema()
    together = ModelsKeys.model_json_schema()
    definitions = whole.pop("$defs")
    whole["properties"]["metric"]["anyOf"].insert(0, {"type": "string", "minLength": 1})
    definitions["ServeKeys"]["properties"]["authorize"]["anyOf"].insert(0, {"type": "string", "minLength": 1})
    whole["properties"]["search"]["anyOf"] = [{"enum": ["off"]}, {"$ref": whole["properties"]["search"].pop("$ref")}]
    whole["properties"]["inputs"]["additionalProperties"] = {"$ref": "#/$defs/InputKeys"}
    stepped: dict[str, Any] = {}
    placed: dict[str, Any] = {}
    for prefix, models, found in (("step", steps, stepped), ("target", targets, placed)):
        for name, model in models.items():
            schema = model.model_json_schema(ref_template="#/$defs/{model}")
            definitions.update(schema.pop("$defs", {}))
            definitions[f"{prefix}-{name}"] = schema
            found[name] = {"anyOf": [{"$ref": f"#/$defs/{prefix}-{name}"}, {"type": "null"}]}
    for name, field in shorts.items():
        stepped[name]["anyOf"].append({"$ref": f"#/$defs/step-{name}/properties/{field}"})
    step = {"type": "object", "properties": stepped, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
    chain = {"type": "array", "items": {"anyOf": [{"enum": list(stepped)}, step]}}
    names = {"pattern": f"^{NAME}$", "maxLength": VARIANT_MOST}
    variants = {"type": "object", "propertyNames": names, "minProperties": 1, "additionalProperties": chain}
    whole["properties"]["variants"] |= {"anyOf": [{"const": "auto"}, variants]}
    several = {
        name: {"anyOf": [*one["anyOf"], {"type": "array", "items": one["anyOf"][0], "minItems": 1}]} for name, one in placed.items()
    }
    whole["properties"]["targets"] |= {
        "type": "object",
        "properties": several,
        "additionalProperties": False,
        "minProperties": 1,
    }
    # Nothing is measured when packages are put together.
    auto = {"type": "object", "properties": {"memory_mb": {"const": AUTO}}, "required": ["memory_mb"]}
    together["properties"]["targets"] = {
        "description": "where the models run together: one target, whose `memory_mb` is a number",
        "type": "object",
        "properties": {name: {**one, "not": auto} for name, one in placed.items()},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    together["required"].append("targets")
    definitions |= {"RecipeKeys": whole, "ModelsKeys": together}
    # Not if and else: an editor completes the keys of both forms as long as neither is ruled out.
    forms = [{"$ref": "#/$defs/RecipeKeys"}, {"$ref": "#/$defs/ModelsKeys"}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe", "anyOf": forms, "$defs": definitions}


def validated(model: type[Keys], written: dict[str, Any]) -> Keys | list[ErrorDetails]:
    """Read strictly by way of JSON, where a list may become a tuple but "3" never 3."""
    try:
        return model.model_validate_json(json.dumps(written), strict=True)
    except ValidationError as error:
        return merged(error.errors(include_url=False), written)


def without_unknown(written: dict[str, Any], errors: list[ErrorDetails]) -> dict[str, Any]:
    """A copy without the unknown keys, so that they do not hide what else is wrong beside them."""
    copy: dict[str, Any] = json.loads(json.dumps(written))
    for error in errors:
        if error["type"] in _UNKNOWN:
            holder: Any = copy
            for part in error["loc"][:-1]:
                holder = holder[part]
            holder.pop(error["loc"][-1], None)
    return copy


def wording(error: ErrorDetails, model: type[Keys], filled: tuple[str, ...] = ()) -> str:
    """pydantic's error in this page's words."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind in _UNKNOWN:
        name = str(error["loc"][-1])
        keys = _keys_at(model, error["loc"][:-1])
        if name in filled:
            return "is filled in by the build, from the target and the data; take it out"
        return f"unknown key{suggestion(name, keys)} (known: {', '.join(keys) or 'none'})"
    if kind == "literal_error":
        expected = str(context["expected"])
        options = tuple(re.findall(r"'([^']*)'", expected))
        near = suggestion(value, options) if isinstance(value, str) else ""
        near = f': write it in quotes: "{value}"' if str(value) in options else near
        return f"must be {expected}, not {_shown(value)}{near}"
    if kind == "string_pattern_mismatch" and context["pattern"] == f"^{NAME}$":
        return f"must be lower-case letters, digits and hyphens ({NAME}), not {_shown(value)}"
    if kind == "value_error":
        return f"{context['error']}"
    if kind == "string_too_short" and not value:
        return "must not be empty"
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        told = f"must have at least {least} entries" if most is None else f"must have at most {most} entries"
        return f"{told}, not {len(value)}" if value else "must not be empty"
    if kind == "string_type" and isinstance(value, int | float):
        return f"must be a string, and {_shown(value)} reads as something else: write it in quotes"
    if kind == "float_type" and (share := share_of(value)) is not None:
        return f"must be a number, not {_shown(value)}: write {share}"
    text = error["msg"].removeprefix("Input should be ").removeprefix("String should ").removeprefix("Value error, ")
    plain = {"valid integer": "whole number", "an object": "a mapping", "a valid array": "a list", "valid ": ""}
    for theirs, ours in plain.items():
        text = text.replace(theirs, ours)
    if isinstance(value, str) and {"gt", "ge", "lt", "le"} & set(context):
        text += "ms" if value.strip().endswith(tuple(MILLISECONDS)) else " B"  # a bound has no unit, and what is written has one
    return f"must be {text}, not {_shown(value)}" if error["msg"].startswith("Input should be") else f"should {text}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _options(options: Any) -> tuple[Any, ...]:
    """The types that an annotation may be, through unions and what is said beside a type."""
    if get_origin(options) not in (Union, UnionType, Annotated):
        return (options,)
    return tuple(each for option in get_args(options) for each in _options(option))


def _keys_at(model: type[Keys], place: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys of what stands at a place of a model: what an unknown key there is compared with."""
    inner: Any = model
    for part in place:
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            inner = inner.model_fields[str(part)].annotation
        elif get_origin(inner) in (dict, Mapping):
            inner = get_args(inner)[1]
        elif get_origin(inner) is tuple:
            inner = get_args(inner)[0]
        options = _options(inner)
        inner = next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), inner)
    if dataclasses.is_dataclass(inner):
        return tuple(field.name for field in dataclasses.fields(inner))
    return tuple((inner if isinstance(inner, type) and issubclass(inner, Keys) else model).model_fields)
