"""Registries as users of the library have them: `mlpack.open_registry` and its neighbours."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.registry.builds import build

import mlpack
from mlpack.errors import MlpackError, RecipeError, ServiceError

ENVIRON = {"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "ada", "CI_COMMIT_TAG": "v1.2.3"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def registry() -> mlpack.Registry:
    """A registry with minilm@1, published by what the variables say."""
    opened = mlpack.open_registry("registry", environ=ENVIRON)
    opened.publish(build(Path("out1"), content=b"one"))
    return opened


def test_what_is_published_is_listed_shown_and_pulled(registry: mlpack.Registry, capfd: pytest.CaptureFixture[str]) -> None:
    second = registry.publish(str(build(Path("out2"), content=b"two")), label="v2.0.0")
    assert (second.name, second.version, second.provenance.label) == ("minilm", 2, "v2.0.0")
    assert registry.publish("out2") == second
    assert [each.version for each in registry.summaries("minilm")] == [1, 2]
    first, again = registry.releases()
    assert (first.provenance.who, first.provenance.label) == ("ada", "v1.2.3")
    assert again == registry.show("minilm") == registry.show("minilm@2") == second
    assert registry.field(second, "version") == "2"
    assert "zip" in mlpack.RELEASE_FIELDS
    assert registry.terraform_values(second)["version"] == "2"
    assert {"ParameterKey": "Version", "ParameterValue": "2"} in registry.cloudformation_parameters(second)
    assert mlpack.registry_json(second)["reference"] == "minilm@2"
    assert "minilm@2" in mlpack.describe_release(second)
    assert registry.pull("minilm@1") == Path("minilm-1")
    assert Path("minilm-1/build.json").read_bytes() == Path("out1/build.json").read_bytes()
    file = registry.pull_file(second, "zip", "function.zip")
    assert file.read_bytes() == Path("out2/artifacts/int8@lambda-zip-x86_64/function.zip").read_bytes()
    assert capfd.readouterr() == ("", "")


def test_aliases_move_behind_gates_and_back(registry: mlpack.Registry) -> None:
    registry.publish(build(Path("out2"), content=b"two"))
    assert registry.promote("minilm@1", "prod").moved
    assert not registry.promote("minilm@1", "prod").moved
    moved = registry.promote("minilm@2", to="prod", why="smaller", expect=1)
    assert mlpack.registry_json(moved)["moved"] is True
    assert [(move.version, move.who, move.why) for move in registry.history("minilm:prod")] == [
        (2, "ada", "smaller"),
        (1, "ada", None),
    ]
    assert registry.live_at("minilm:prod", "2999-01-01").version == 2
    assert registry.rollback("minilm:prod", why="slower").move.version == 1
    assert registry.show("minilm:prod").version == 1
    with pytest.raises(ServiceError, match="revision"):
        registry.promote("minilm@2", "prod", expect=1)


@pytest.mark.parametrize("budgets", [{"package_size": "1B"}, {"package_size": "1 B"}, ["package_size=1B"]])
def test_a_policy_refuses_what_exceeds_its_budgets(registry: mlpack.Registry, budgets: dict[str, str] | list[str]) -> None:
    policy = registry.policies.set("*:prod", budgets=budgets, refuses=["none"])
    assert (policy.subject, policy.revision, policy.refuses, policy.budgets.package_size_bytes) == ("*:prod", 1, (), 1)
    assert registry.policies.get("*:prod") == next(registry.policies.all()) == policy
    with pytest.raises(MlpackError, match="package_size") as caught:
        registry.promote("minilm@1", "prod")
    assert caught.value.exit_code == mlpack.errors.ExitCode.OVER_BUDGET
    assert registry.promote("minilm@1", "prod", force=True, why="tonight").move.forced
    assert registry.policies.remove("*:prod")
    assert not registry.policies.remove("*:prod")


def test_upkeep_verifies_collects_moves_and_looks_back(registry: mlpack.Registry, tmp_path: Path) -> None:
    report = registry.upkeep.verify()
    assert (report.releases, report.findings) == (1, ())
    nothing = mlpack.RetentionPolicy(newest=1, days=0, moves=0, window_days=0, grace_days=0, tags=())
    assert registry.upkeep.collect(nothing).releases == ()
    assert registry.upkeep.export(tmp_path / "export.tar") == 1
    other = mlpack.open_registry(str(tmp_path / "other"), environ=ENVIRON)
    brought = other.upkeep.import_from(tmp_path / "export.tar")
    assert brought.releases == ("minilm@1",)
    assert other.show("minilm@1") == registry.show("minilm@1")
    assert [(each.what, each.who) for each in registry.upkeep.audit()] == [("publish", "ada")]
    assert registry.upkeep.migrate() >= 3
    Path("registry").joinpath("blobs").rename(tmp_path / "gone")
    assert registry.upkeep.verify().findings


def test_the_variables_name_the_registry(registry: mlpack.Registry, tmp_path: Path) -> None:
    assert mlpack.open_registry(environ={"MLPACK_REGISTRY": "registry"}).show("minilm").version == 1
    assert mlpack.open_registry(environ={}).where == ".mlpack/registry"
    assert mlpack.open_registry(Path("registry"), environ={}).show("minilm").version == 1
    assert mlpack.open_registry("elsewhere", environ={"MLPACK_REGISTRY": "registry"}).where == "elsewhere"
    assert not (tmp_path / "here/elsewhere").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda registry: registry.show("minilm@"),
        lambda registry: registry.show("minilm@9"),
        lambda registry: registry.promote("minilm", "prod"),
        lambda registry: registry.promote("minilm@1", "latest"),
        lambda registry: registry.rollback("minilm@1"),
        lambda registry: registry.live_at("minilm:prod", "yesterday"),
        lambda registry: registry.publish("nowhere"),
        lambda registry: registry.publish("out1", label="latest"),
        lambda registry: registry.pull_file(registry.show("minilm"), "layer", "x"),
        lambda registry: registry.pull_file(registry.show("minilm"), "zip", "."),
        lambda registry: registry.field(registry.show("minilm"), "colour"),
        lambda registry: registry.policies.set("minilm", budgets={"package_size": "1B"}),
        lambda registry: registry.policies.set("minilm:prod", budgets={"package_size": "large"}),
        lambda registry: registry.policies.set("minilm:prod", refuses=["colour"]),
        lambda registry: registry.upkeep.audit("yesterday"),
        lambda registry: registry.upkeep.import_from("out1"),
        lambda registry: registry.upkeep.import_from("out1", also=["gates"]),
        lambda registry: registry.show("nowhere", wait_s=float("nan")),
        lambda registry: registry.presign(registry.show("minilm"), 0),
        lambda _: mlpack.RetentionPolicy(days=float("nan")),
        lambda _: mlpack.RetentionPolicy(grace_days=float("inf")),
        lambda _: mlpack.registry_template("s3://models?table=models&region=eu-west-1", "helm"),  # type: ignore[arg-type]
        lambda _: mlpack.open_registry("ftp://x/y"),
        lambda _: mlpack.create_registry("dir", region="eu-west-1"),
        lambda _: mlpack.RegistryOptions(kms_key="mine"),
    ],
)
def test_what_makes_no_sense_is_told_as_such(registry: mlpack.Registry, call: object) -> None:
    assert callable(call)
    with pytest.raises(RecipeError):
        call(registry)


def test_a_registry_is_created_and_written_down() -> None:
    told: list[str] = []
    done = mlpack.create_registry("made", options=mlpack.RegistryOptions(images="r.example/team"), say=told.append)
    assert done == told != []
    assert mlpack.create_registry("made") == []
    assert mlpack.open_registry("made").images_home() == "r.example/team"
    assert "AWS::DynamoDB::Table" in mlpack.registry_template("s3://models?table=models&region=eu-west-1", "cloudformation")
    assert mlpack.why_reserved("latest") is not None
    assert mlpack.why_reserved("prod") is None
