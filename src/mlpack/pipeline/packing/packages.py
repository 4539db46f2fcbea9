"""The packages of all candidates, each made at most once: bases are resolved and pinned, runtimes shared, packages kept in the
store.

Promises:
- A package's action holds everything that it is made of, so equal inputs give the package that is already there.
- What `mlpack.lock` pins is not resolved again.
- Outside the store only the lock beside the recipe is written, at the end of the build (`keep_lock`).

Will not: boot or measure.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core import digest, entrypoint
from mlpack.core.digest import Digest
from mlpack.core.records import Artifact, Candidate, Model, Part, Recipe, Target
from mlpack.errors import PackError, RecipeError
from mlpack.graphs.files import read_signature
from mlpack.pipeline.measuring.measure import Subject
from mlpack.pipeline.packing import pack, wheels
from mlpack.pipeline.packing import requirements as hook_requirements
from mlpack.pipeline.packing.pack import Hooks, PackRequest, RuntimeRequest
from mlpack.pipeline.packing.runtime_part import requirements
from mlpack.pipeline.packing.unpacked import TASK, Trees
from mlpack.recipe import runtime_settings, tasks
from mlpack.store import care
from mlpack.store.local import Entry, Store
from mlpack.targets import TARGETS, licenses, on_processor
from mlpack.targets.format import bytecode
from mlpack.targets.format.contents import NO_FACTS, Facts

if TYPE_CHECKING:
    from mlpack.oci.base import Base
    from mlpack.oci.distribution.auth import Credentials

PACKAGE = "package"
_ARTIFACT = "artifact.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The package of one candidate in the store. `content` is the digest of what runs, without names: packages of equal content
    behave alike and are measured once."""

    artifact: Artifact
    dir: Path
    content: Digest
    python: str
    memory_mb: int


def interpreter_of(package: Package) -> tuple[Path, str]:
    """The Python that runs the package here: one of its minor version, else this process's, which imports more slowly because the
    package's bytecode is of another version."""
    import sys

    interpreter = pack.interpreter_for(package.python)
    if interpreter is not None:
        return interpreter.path, interpreter.version
    return Path(sys.executable), sys.version.split()[0]


def subject_of(id_: str, package: Package, root: Path) -> Subject:
    """The package, unpacked in `root`, as a subject of measuring."""
    return Subject(id=id_, root=root, memory_mb=package.memory_mb, interpreter=interpreter_of(package)[0])


class Packages:
    """The packages of one build of `recipe`. `base` replaces the base of every target that needs one; `facts` go into every image
    (RecipeError when the recipe has no image)."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        roots: tuple[Path, ...],
        *,
        base: str | None = None,
        credentials: Credentials | None = None,
        facts: Facts = NO_FACTS,
    ) -> None:
        if facts != NO_FACTS and not any(TARGETS[target.kind].needs_base for target in recipe.targets):
            raise RecipeError("--label and --created are for images, and no target of this recipe is one: leave them out")
        self._recipe, self._store, self._base, self._credentials = recipe, store, base, credentials
        self._facts = facts
        self._hooks = _hooks(recipe, roots)
        self._lock_path = recipe.root / wheels.LOCK_NAME
        self._lock = wheels.read_lock(self._lock_path)
        self._bases: dict[tuple[str, str], Base] = {}
        self._cache = store.root / care.BASES
        self.trees = Trees(store)
        """Packages unpacked."""

    def pack(self, candidate: Candidate, model: Model, sample: Mapping[str, Any]) -> Package:
        """Make the candidate's package. PackError, LimitError and ServiceError as of `pack.pack` and `oci`."""
        request, content = self._request(candidate, model, sample)
        target, base = candidate.target, request.base
        action: dict[str, Any] = {
            "kind": "package",
            "version": [pack.VERSION, TARGETS[target.kind].version],
            "tools": pack.tools(),
            "name": self._recipe.name,
            "variant": candidate.variant,
            "target": [target.kind, _plain(target)],
            "content": content,
            "python": request.python,
            "base": str(base.manifest_digest) if base else None,
            "sample": str(digest.of_json(sample)),
            **TARGETS[target.kind].provider,
        }
        if base and self._facts != NO_FACTS:
            action["facts"] = [dict(self._facts.labels), self._facts.created_s]
        with self._store.entry(action) as entry:
            if not entry.hit:
                (entry.dir / PACKAGE).mkdir()
                with self._store.scratch() as work:
                    artifact = pack.pack(request, work, entry.dir / PACKAGE)
                (entry.dir / _ARTIFACT).write_bytes(digest.canonical_json(_as_json(artifact)))
        artifact = _from_json(json.loads((entry.dir / _ARTIFACT).read_bytes()))
        return self._package(artifact, entry.dir / PACKAGE, request, content)

    def lay_out(self, candidate: Candidate, model: Model, sample: Mapping[str, Any]) -> Package:
        """A package that is too large to ship, as a bare directory. A baseline has to run, because others are compared with it."""
        return self._directory_package(candidate, *self._request(candidate, model, sample))

    def twin(self, candidate: Candidate, model: Model, sample: Mapping[str, Any], arch: str | None = None) -> Package:
        """The twin of a package that cannot run here (for a GPU, or another architecture): a bare directory for this machine's
        processor.

        It has the same graph, or one with the same roundings, and onnxruntime for `arch` (None: the package's own). Only accuracy
        is measured on it.
        """
        arch = arch or candidate.target.arch
        here = dataclasses.replace(candidate, target=on_processor(arch, candidate.target.config.memory_mb))
        python = pack.python_of(candidate.target, self.base_of(candidate.target), self._cache)
        return self._directory_package(here, *self._request(here, model, sample, python))

    def _directory_package(self, candidate: Candidate, request: PackRequest, content: dict[str, Any]) -> Package:
        action: dict[str, Any] = {"kind": "directory", "version": pack.VERSION, "name": self._recipe.name}
        kind = candidate.target.kind
        action |= {
            "variant": candidate.variant,
            "target": kind,
            "content": content,
            "python": request.python,
            **TARGETS[kind].provider,
        }
        with self._store.entry(action) as entry:
            if not entry.hit:
                (entry.dir / TASK).mkdir()
                with self._store.scratch() as work:
                    pack.lay_out(request, work, entry.dir / TASK)
        size = digest.size_of_tree(entry.dir)
        artifact = Artifact(
            kind="directory", digest=entry.digest, tree=entry.digest, files=(), size_bytes=size, compressed_bytes=size, parts=()
        )
        return self._package(artifact, entry.dir, request, content)

    def _request(
        self, candidate: Candidate, model: Model, sample: Mapping[str, Any], python: str | None = None
    ) -> tuple[PackRequest, dict[str, Any]]:
        """The request, and the part of it that decides the package's behaviour. `python`: for a directory without a base."""
        target, model_dir = candidate.target, self._store.path(model.tree)
        base = None if python else self.base_of(target)
        python = python or pack.python_of(target, base, self._cache)
        tokenizer = self._tokenizer(model_dir)
        signature = read_signature(model_dir)
        task = tasks.settings(self._recipe, candidate.steps, signature, tokenized=tokenizer is not None)
        further = runtime_settings.settings(self._recipe, task, signature)
        weights = self._recipe.serve.weights if TARGETS[target.kind].device == "cpu" else None  # an engine has its own
        modules = (*runtime_settings.modules(task, further), *(["remote.start"] if weights else []))
        runtime = self._runtime(
            target,
            python,
            text=tokenizer is not None,
            modules=modules,
            more=runtime_settings.needs(task, TARGETS[target.kind].needs(target.config)),
        )
        entry, notes = self._runtime_entry(runtime, target, python)
        if task is None and (why := tasks.untold(self._recipe, candidate.steps, signature)) is not None:
            notes = (*notes, why)
        content = {
            "model": str(model.tree),
            "runtime": str(entry.digest),
            "serve": self._serving(),
            "memory_mb": target.config.memory_mb,
            "settings": pack.VERSION,
            **({"task": task} if task else {}),
            **further,
            **({"weights": dataclasses.asdict(weights)} if weights else {}),
        }
        request = PackRequest(
            name=self._recipe.name,
            version=model.tree.short,
            variant=candidate.variant,
            target=target,
            model_dir=model_dir,
            runtime=entry.dir,
            python=python,
            sample=sample if self._recipe.serve.example is not None else tasks.sample(task, sample),
            task=task,
            further=further,
            weights=weights,
            hooks=self._hooks,
            tokenizer=tokenizer,
            max_length=self._recipe.serve.max_length,
            base=base,
            cache_dir=self._cache,
            notes=notes,
            facts=self._facts,
        )
        return request, content

    def _package(self, artifact: Artifact, folder: Path, request: PackRequest, content: dict[str, Any]) -> Package:
        memory_mb = int(request.target.config.memory_mb)
        return Package(artifact=artifact, dir=folder, content=digest.of_json(content), python=request.python, memory_mb=memory_mb)

    def needs_base(self, target: Target) -> bool:
        """Whether packages for this target lie over a base image."""
        return TARGETS[target.kind].needs_base

    def base_of(self, target: Target) -> Base | None:
        """The resolved base of a target that needs one. The lock pins a registry's base by digest. RecipeError when there is no
        such base for this target."""
        if not self.needs_base(target):
            return None
        from mlpack.oci import blobs, layout
        from mlpack.oci.base import resolve_base

        reference = self._base or target.config.base
        cached = self._bases.get((reference, target.arch))
        if cached is not None:
            return cached
        self._store.hold(care.BASES)
        key = f"{reference} {target.arch}"
        place = reference if self._base else layout.beside(reference, self._recipe.root)
        try:
            base = resolve_base(place, target.arch, self._cache, self._lock.bases.get(key), self._credentials)
        except PackError as error:
            option = "--base" if self._base else f"targets.{target.kind}.base"
            raise RecipeError(f"{option}: {error}") from error
        if base.kind == "registry":
            self._keep(dataclasses.replace(self._lock, bases={**self._lock.bases, key: base.digest}))
        image = base.image
        digests = (base.digest, base.manifest_digest, digest.of_bytes(image.config_bytes), *(each.digest for each in image.layers))
        for name in digests:
            blobs.used(blobs.path_of(self._cache / "blobs", name))
        self._bases[(reference, target.arch)] = base
        return base

    def _runtime(
        self, target: Target, python: str, *, text: bool, modules: tuple[str, ...], more: tuple[str, ...]
    ) -> RuntimeRequest:
        self._keep(wheels.with_pins(self._lock, python, target.arch, (*self._own(target), *requirements(more))))
        request = pack.runtime_request(target, python, text, self._lock.wheels[wheels.platform_key(python, target.arch)], more)
        return dataclasses.replace(request, modules=modules)

    def prepare(self, candidate: Candidate) -> None:
        """Have what a candidate's package needs from elsewhere before anything is made for it: its base, and what hooks need.

        Raises:
            RecipeError: There is no such base, or no wheels for the requirements, or a licence of theirs is not accepted.
            ServiceError: The registry or the index cannot be reached.
        """
        target = candidate.target
        base = self.base_of(target)
        if hook_requirements.asked(self._recipe, target)[0] and not candidate.skipped:
            self._requirements(target, pack.python_of(target, base, self._cache))

    def _own(self, target: Target) -> tuple[str, ...]:
        """The distributions of mlpack's own part of a package."""
        return requirements((*TARGETS[target.kind].needs(target.config), "tokenizer"))

    def _requirements(self, target: Target, python: str) -> Entry | None:
        """The tree of the wheels that hooks and the target need; None without requirements. Their licences are judged here."""
        lines, whose = hook_requirements.asked(self._recipe, target)
        if not lines:
            return None
        own, slim = self._own(target), self._recipe.serve.slim
        wanted = hook_requirements.Wanted(lines=lines, python=python, arch=target.arch, own=own, slim=slim, whose=whose)
        self._keep(hook_requirements.pinned(self._lock, wanted))
        pins = self._lock.requirements[wanted.key]
        with self._store.entry(hook_requirements.tree_key(pins, wanted)) as entry:
            if not entry.hit:
                hook_requirements.wheels_tree(pins, wanted, entry.dir)
        hook_requirements.check_licences(hook_requirements.read_summary(entry.dir), self._recipe.accept_licenses, whose)
        return entry

    def _with_requirements(self, runtime: RuntimeRequest, own: Entry, needed: Entry) -> Entry:
        """A runtime part with the hooks' wheels."""
        action = {
            "kind": "runtime with requirements",
            "version": [hook_requirements.VERSION, bytecode.VERSION],
            "runtime": str(own.digest),
            "requirements": str(needed.digest),
            "prefix": runtime.prefix,
            "compiler": runtime.interpreter.version if runtime.interpreter else None,
        }
        with self._store.entry(action) as entry:
            if not entry.hit:
                hook_requirements.lay_over(own.dir, needed.dir, runtime, entry.dir)
        return entry

    def _runtime_entry(self, runtime: RuntimeRequest, target: Target, python: str) -> tuple[Entry, tuple[str, ...]]:
        """The runtime part in the store, with the hooks' wheels where there are any, and notes about it."""
        with self._store.entry({"kind": "runtime", **pack.runtime_key(runtime)}) as entry:
            if not entry.hit:
                pack.runtime_tree(runtime, entry.dir)
        needed, notes = self._requirements(target, python), _notes(runtime, target)
        if needed is None:
            return entry, notes
        told = hook_requirements.note(hook_requirements.read_summary(needed.dir))
        return self._with_requirements(runtime, entry, needed), (*notes, told)

    def _keep(self, lock: wheels.Lock) -> None:
        """Take new pins for this build. RecipeError where they could not be written at its end, an hour later."""
        if lock == self._lock:
            return
        if not os.access(self._lock_path.parent, os.W_OK | os.X_OK):
            raise RecipeError(
                f"{self._lock_path}: {self._lock_path.parent} cannot be written to, and what ships is pinned there. Build it once "
                "where it can, and commit the lock: then nothing has to be written"
            )
        self._lock = lock

    def keep_lock(self) -> None:
        """Write the pins of a build that has come to its end. A build that fails leaves no lock."""
        # A build of another recipe in this directory may have pinned something since: its pins stay.
        there = wheels.read_lock(self._lock_path)
        merged = wheels.Lock(
            wheels={**there.wheels, **self._lock.wheels},
            bases={**there.bases, **self._lock.bases},
            requirements={**there.requirements, **self._lock.requirements},
        )
        if merged != there:
            wheels.write_lock(self._lock_path, merged)

    def _tokenizer(self, model_dir: Path) -> Path | None:
        tokenizer = self._recipe.serve.tokenizer
        for place in (self._recipe.root / tokenizer if tokenizer else None, model_dir / "tokenizer.json"):
            if place is not None and place.is_file():
                return place
        return None

    def _serving(self) -> dict[str, Any]:
        """Everything beside model and runtime that decides the package's answers."""
        serve, hooks = self._recipe.serve, self._hooks
        tokenizer = self._recipe.root / serve.tokenizer if serve.tokenizer else None
        return {
            "preprocess": serve.preprocess,
            "postprocess": serve.postprocess,
            "max_length": serve.max_length,
            "tokenizer": str(digest.of_file(tokenizer)) if tokenizer and tokenizer.is_file() else None,
            "hooks": {name: str(digest.of_file(hooks.root / name)) for name in hooks.files} if hooks else {},
        }


def _hooks(recipe: Recipe, roots: tuple[Path, ...]) -> Hooks | None:
    serve = recipe.serve
    references = (serve.preprocess, serve.postprocess, (serve.authorize or {}).get("hook"), serve.log and serve.log.redact)
    entries = [entrypoint.locate(reference, roots) for reference in references if reference]
    if not entries:
        return None
    if len({entry.root for entry in entries}) > 1:
        raise RecipeError("serve: its hooks lie in different directories: put all beside the recipe")
    files = tuple(sorted({name for entry in entries for name in entry.files}))
    return Hooks(root=entries[0].root, files=files, preprocess=serve.preprocess, postprocess=serve.postprocess)


def _notes(runtime: RuntimeRequest, target: Target) -> tuple[str, ...]:
    row = TARGETS[target.kind]
    notices = tuple(licenses.notice(each) for each in row.licenses(target.config))
    by = (f"the target {target.kind} is that of {row.plugin}",) if row.plugin else ()
    return (*(() if runtime.interpreter else (bytecode.missing_note(runtime.python),)), *notices, *by)


def _plain(target: Target) -> dict[str, Any]:
    """A target's config without its base, which actions have by digest."""
    return {name: value for name, value in dataclasses.asdict(target.config).items() if name != "base"}


def _as_json(artifact: Artifact) -> dict[str, Any]:
    return dataclasses.asdict(artifact) | {"digest": str(artifact.digest), "tree": str(artifact.tree)}


def _from_json(value: dict[str, Any]) -> Artifact:
    parts = tuple(Part(**part) for part in value["parts"])
    texts = {name: tuple(value[name]) for name in ("files", "notes")}
    return Artifact(**(value | texts | {"digest": Digest(value["digest"]), "tree": Digest(value["tree"]), "parts": parts}))
