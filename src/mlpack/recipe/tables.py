"""What a recipe says of passes and targets, held against their tables.

Promises: a `Step` or `Target` comes out only with an instance of its own config type; everything else goes to `say`,
with its place. The tables are parameters: nothing here knows a pass or a target by name, except what several share
(`arch`, `ratio`, `method: static`, `type: int8`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from mlpack.core import digest, plugins
from mlpack.core.calibrants import NOTHING
from mlpack.core.entrypoint import suggestion
from mlpack.core.records import Source, Step, Target, Variant
from mlpack.core.yaml_positions import Place
from mlpack.errors import MlpackError, PluginError
from mlpack.targets.chains import Chain
from mlpack.targets.licenses import License
from mlpack.targets.limits import Ranges

ARCHS = ("x86_64", "arm64")
FLOAT = "float"
"""The name of a baseline that is no variant of the recipe's own; reserved for a chain without steps."""


class PassRow(Protocol):
    """What is read of a row of the table of passes."""

    @property
    def config(self) -> type: ...
    @property
    def takes(self) -> tuple[str, ...]: ...
    @property
    def gives(self) -> str: ...
    @property
    def binds(self) -> tuple[str, ...]: ...
    @property
    def short(self) -> str | None: ...


class TargetRow(Protocol):
    """What is read of a row of the table of targets."""

    @property
    def config(self) -> type: ...
    @property
    def float16_archs(self) -> tuple[str, ...]: ...
    @property
    def chain(self) -> Callable[[Any], Chain]: ...
    @property
    def device(self) -> str: ...
    @property
    def licenses(self) -> Callable[[Any], tuple[License, ...]]: ...


Passes = Mapping[str, PassRow]
Targets = Mapping[str, TargetRow]


def tables(passes: Passes | None, targets: Targets | None) -> tuple[Passes, Targets]:
    """The tables given, or mlpack's own with those of plug-ins."""
    if passes is None:
        from mlpack.passes import PASSES

        passes = PASSES
    if targets is None:
        from mlpack.targets import TARGETS

        targets = TARGETS
    return passes, targets


def filled(row: PassRow) -> tuple[str, ...]:
    """Fields of a pass's config that the build fills, and a recipe may not."""
    return (*row.binds, "arch")


def _calibrated(step: Step, row: PassRow) -> str | None:
    """What of this step cannot be done without calibration data, in words; None where it can."""
    if "calibration" not in row.binds:
        return None
    if getattr(step.config, "method", None) == "static":
        return "static quantization"
    kind = getattr(step.config, "type", None)
    return f"{step.name} in {kind}" if kind in ("int8", "mixed") else None


class Structurer:
    """Reads the two parts of a recipe whose keys the tables decide. `say` takes every problem with its place."""

    def __init__(self, passes: Passes, targets: Targets, say: Callable[[Place, str], None]) -> None:
        self._passes = passes
        self._targets = targets
        self._say = say

    def variants(self, written: Any, source: Source | None, data: Any) -> tuple[Variant, ...] | None:
        if written == "auto":
            return None
        if not isinstance(written, dict) or not written:
            self._say(("variants",), "must be `auto` or a mapping of names to lists of steps, such as `int8: [quantize]`")
            return None
        from mlpack.recipe.schema import VARIANT_MOST
        from mlpack.recipe.units import NAME

        variants = []
        for name, chain in written.items():
            place: Place = ("variants", name)
            if not re.fullmatch(NAME, name):
                self._say(place, f"a variant's name is lower-case letters, digits and hyphens ({NAME})")
            elif len(name) > VARIANT_MOST:
                self._say(place, f"a variant's name is at most {VARIANT_MOST} letters long, and this one {len(name)}: shorten it")
            if not isinstance(chain, list):
                self._say(place, "must be a list of steps; [] is the float model as it is")
                continue
            if name == FLOAT and chain:
                self._say(place, f"{FLOAT} names the baseline, which has no steps; call this variant something else")
            steps = [self._step(item, (*place, index)) for index, item in enumerate(chain)]
            if source is not None:
                self._check_chain(steps, source.format, place)
            for index, step in enumerate(steps):
                if step and data and data.calibration == NOTHING and (what := _calibrated(step, self._passes[step.name])):
                    self._say((*place, index), f"{what} needs data to calibrate with, and data.calibration says none")
            variants.append(Variant(name=name, steps=tuple(step for step in steps if step is not None)))
        return tuple(variants)

    def _step(self, item: Any, place: Place) -> Step | None:
        if isinstance(item, dict) and len(item) == 1:
            name, config = next(iter(item.items()))
            place = (*place, name)
        elif isinstance(item, str):
            name, config = item, None
        else:
            self._say(place, "a step is a pass's name, or one with its keys: `quantize` or `{quantize: {method: dynamic}}`")
            return None
        if name not in self._passes:
            names = tuple(self._passes)
            self._say(place, f"there is no pass {name!r}{suggestion(name, names)} (known: {', '.join(names)})")
            return None
        try:
            row = plugins.lookup(self._passes, name)
        except PluginError as error:
            self._say(place, str(error))
            return None
        if row.short is not None and config is not None and not isinstance(config, dict | list):
            structured = self._structured(row.config, {row.short: config}, place, filled(row), short=row.short)
        else:
            structured = self._structured(row.config, config, place, filled(row))
        return None if structured is None else Step(name=name, config=structured)

    def _check_chain(self, steps: list[Step | None], state: str, place: Place) -> None:
        """Whether each step takes what the one before gives; `plan` puts an export where ONNX is needed first."""
        first = state
        for index, step in enumerate(steps):
            if step is None:
                continue
            row = self._passes[step.name]
            if state not in row.takes and "onnx" in row.takes:
                state = "onnx"
            if state not in row.takes:
                takes = " or ".join(row.takes)
                why = f"and the source is {first}" if first == state else "put it before the steps that work on ONNX"
                self._say((*place, index), f"{step.name} works on {takes}, not on {state}: {why}")
            state = state if row.gives == "same" else row.gives

    def targets(self, written: Any) -> tuple[Target, ...]:
        if not isinstance(written, dict) or not written:
            self._say(("targets",), f"must be a mapping of targets to their keys (known: {', '.join(self._targets)})")
            return ()
        targets: dict[str, Target] = {}
        for kind, value in written.items():
            if kind not in self._targets:
                names = tuple(self._targets)
                self._say(("targets", kind), f"there is no target {kind!r}{suggestion(kind, names)} (known: {', '.join(names)})")
                continue
            try:
                row = plugins.lookup(self._targets, kind)
            except PluginError as error:
                self._say(("targets", kind), str(error))
                continue
            several = value if isinstance(value, list) else [value]
            if not several:
                self._say(("targets", kind), "an empty list of targets")
            for index, one in enumerate(several):
                place: Place = ("targets", kind, index) if isinstance(value, list) else ("targets", kind)
                config = self._structured(row.config, one, place, ())
                if config is None:
                    continue
                target = Target(kind=kind, arch=config.arch, config=config)
                if target.arch not in ARCHS:
                    problem = f"{target.arch!r} is no architecture{suggestion(target.arch, ARCHS)} (known: {', '.join(ARCHS)})"
                    self._say((*place, "arch"), problem)
                if target.id in targets:
                    self._say(place, f"{target.id} is asked for twice; a candidate's name could not tell them apart")
                targets[target.id] = target
        return tuple(targets.values())

    def _structured(self, config: type, written: Any, place: Place, filled: tuple[str, ...], *, short: str | None = None) -> Any:
        """An instance of a config dataclass from what was written, or None with problems.

        `short`: the field that a bare value stood for; what is wrong with it is said of the place where it was written.
        """
        from pydantic import PydanticUserError

        from mlpack.recipe.schema import keys_of, validated, wording

        try:
            model = keys_of(config, filled)
        except (PydanticUserError, TypeError, NameError) as unfit:  # of a plug-in's: ours are in the schema
            what = f"{config.__module__}.{config.__qualname__} has fields that no recipe can say"
            self._say(place, f"{what} ({str(unfit).splitlines()[0]}): tell the makers of the plug-in")
            return None
        written = {} if written is None else written
        if not isinstance(written, dict):
            self._say(place, f"must be a mapping of its keys ({', '.join(model.model_fields) or 'it has none'})")
            return None
        read = validated(model, written)
        if isinstance(read, list):
            for error in read:
                inside = error["loc"][1:] if error["loc"][:1] == (short,) else error["loc"]
                self._say((*place, *inside), wording(error, model, filled))
            return None
        values = {name: getattr(read, name) for name in model.model_fields}
        ranges: Ranges = getattr(config, "RANGES", {})
        try:
            outside = [name for name in ranges if values.get(name) is not None and not ranges[name][0](values[name])]
            for name in outside:
                self._say((*place, name), f"{ranges[name][1]}, not {values[name]}")
            if outside:
                return None
            made = config(**values)
            digest.canonical_json({name: value for name, value in asdict(made).items() if name not in filled})  # as actions have it
            return made
        except (ValueError, TypeError, MlpackError) as refused:
            self._say(place, str(refused))
        except Exception as fault:  # noqa: BLE001 - a plug-in's config may raise anything
            self._say(place, f"{config.__module__}.{config.__qualname__} failed: {plugins.quoted(fault)}")
        return None
