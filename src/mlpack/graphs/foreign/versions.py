"""Changes the versions of a file to ones that this engine takes.

Promises:
- A version changes only where the graph means the same under the new one: every operator is defined alike as far as it is used,
  or ONNX's own converter has rewritten it. Everything else is a PassError of one sentence.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import check, files

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

OLDEST = 7
"""The first operator set that the engine claims to support."""

_IR = 8
"""The IR version for files older than it: weights need not be inputs, and the engine accepts it."""

_NEWEST_TRIED = {"": 40, "ai.onnx.ml": 12}


def adapted(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model in versions that the engine takes, changed in place where that suffices. PassError when no version means the
    same."""
    _one_name(model)
    model.ir_version = min(max(model.ir_version, _IR), newest_ir())
    for domain in _NEWEST_TRIED:
        imported = [entry for entry in model.opset_import if entry.domain == domain]
        if not imported and domain == "":
            model.opset_import.add().version = 1  # what IR versions before 3 mean
            imported = [model.opset_import[-1]]
        for entry in imported:
            newest = newest_opset(domain)
            if entry.version > newest:
                _lower(model, domain, entry.version, newest, name)
                entry.version = newest
                for own in (each for function in model.functions for each in function.opset_import if each.domain == domain):
                    own.version = min(own.version, newest)
    old = of(model)
    return _raise(model, old, name) if old < OLDEST else model


def _schema(operator: str, version: int, domain: str) -> Any:
    from onnx import defs

    try:
        return defs.get_schema(operator, version, domain)
    except defs.SchemaError:
        return None


def _alike(node: onnx.NodeProto, new: Any, old: Any) -> bool:
    """Whether the node means the same by both definitions: they are equal, or the newer one accepts more (types, an attribute or an
    input that the node does not use). The engine itself reports types that it lacks."""
    if new is None or old is None:
        return False
    if new.since_version == old.since_version:
        return True
    fresh = set(new.attributes) - set(old.attributes)
    used = {attribute.name for attribute in node.attribute}
    if used - set(old.attributes) or any(new.attributes[name].required for name in fresh):
        return False
    if any(_signature_of(new.attributes.get(name)) != _signature_of(each) for name, each in old.attributes.items()):
        return False
    if len(node.input) > old.max_input or len(node.output) > old.max_output or new.min_input > len(node.input):
        return False
    ports = zip((*new.inputs, *new.outputs), (*old.inputs, *old.outputs), strict=False)
    if len(new.inputs) == len(old.inputs):
        return all((one.name, one.option) == (other.name, other.option) for one, other in ports)
    return all((one.name, one.option) == (other.name, other.option) for one, other in zip(new.inputs, old.inputs, strict=False))


def _signature_of(attribute: Any) -> tuple[Any, ...] | None:
    return attribute and (attribute.type, attribute.required, attribute.default_value.SerializeToString())


def of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operator set that the graph is written for."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def raised(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """A copy written for a newer operator set. Raises PassError where ONNX's converter cannot. Whether the copy is right is another
    question."""
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, version)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise PassError(f"ONNX's converter cannot bring the graph from operator set {of(model)} to {version} ({reason})") from error


def _one_name(model: onnx.ModelProto) -> None:
    """Write ONNX's own domain, which has two names, under the shorter one, once."""
    entries = list(model.opset_import)
    own = [entry.version for entry in entries if entry.domain in ("", "ai.onnx")]
    others = {entry.domain: entry.version for entry in entries if entry.domain not in ("", "ai.onnx")}
    del model.opset_import[:]
    for domain, version in [*(("", version) for version in own[:1]), *others.items()]:
        entry = model.opset_import.add()
        entry.domain, entry.version = domain, version
    for entry in (each for function in model.functions for each in function.opset_import if each.domain == "ai.onnx"):
        entry.domain = ""
    for node in _all_nodes(model):
        node.domain = "" if node.domain == "ai.onnx" else node.domain


def _lower(model: onnx.ModelProto, domain: str, version: int, newest: int, name: str) -> None:
    """Raise PassError unless every operator of the domain means the same in the version that the engine knows."""
    own = {(function.domain, function.name) for function in model.functions}
    for node in _all_nodes(model):
        if node.domain != domain or (node.domain, node.op_type) in own:
            continue
        if not _alike(node, _schema(node.op_type, version, domain), _schema(node.op_type, newest, domain)):
            raise PassError(
                f"{name}: is written for operator set {version} of {domain or 'ai.onnx'}, in which {node.op_type} is not what it "
                f"is in {newest}, the newest that this engine knows: export it for {newest} or older"
            )


def _raise(model: onnx.ModelProto, old: int, name: str) -> onnx.ModelProto:
    try:
        return raised(model, OLDEST)
    except PassError as error:
        raise PassError(
            f"{name}: is written for operator set {old}, and engines take {OLDEST} and later: export it again ({error})"
        ) from error


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from files.nodes(model.graph)
    for function in model.functions:
        yield from files.nodes(function)


@cache
def newest_ir() -> int:
    """The newest IR version that the engine accepts, found by trying."""
    import onnx

    return next(version for version in range(onnx.IR_VERSION + 8, 0, -1) if _takes(version, {"": OLDEST}))


@cache
def newest_opset(domain: str = "") -> int:
    """The newest operator set of a domain that the engine accepts, found by trying."""
    newest = _NEWEST_TRIED[domain]
    return next(version for version in range(newest, 0, -1) if _takes(_IR, {"": OLDEST, domain: version}))


def _takes(ir_version: int, opsets: dict[str, int]) -> bool:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [1]) for each in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    try:
        check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL")
    except PassError:
        return False
    return True
