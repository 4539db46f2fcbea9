"""The verbs of the registry, as scripts use them: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from tests.support.command_line import run
from tests.support.images.fake_registry import FakeRegistry
from tests.support.registry.builds import build
from tests.support.services.aws_server import AwsServer, Fault
from tests.support.workshop import Workshop

from mlpack.cli import commands
from mlpack.errors import ExitCode
from mlpack.registry import SCHEMA

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of its own, which is no repository, and nobody's CI."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("USER", "alice")
    for name in ("CODEBUILD_BUILD_ID", "JENKINS_URL", "BUILDKITE", "CIRCLECI", "TF_BUILD", "BITBUCKET_BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


class Shell:
    """The command line; what the last command said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *words: object, code: int = 0) -> str:
        found = run(*words)
        said = self._capsys.readouterr()
        self.out, self.err = said.out, said.err
        assert found == code, f"{words}: {found}\n{self.out}\n{self.err}"
        return self.out.strip()

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as running:
        yield running


@pytest.fixture
def sh(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def published(sh: Shell, number: int = 1, **how: Any) -> str:
    """A build, published; its reference."""
    folder = Path(f"out{number}-{how.get('name', '')}{how.get('kind', '')}")
    build(folder, content=how.pop("content", b"function %d" % number), **how)
    return sh("publish", folder)


def test_publishing_says_the_reference_and_who_and_what(sh: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    build(Path("out"))
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("GITLAB_USER_LOGIN", "carol")
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/-/jobs/7")
    assert sh("publish", "out", "--label", "v1.4.0") == "minilm@1"
    shown = sh.json("show", "minilm")
    assert (shown["label"], shown["who"], shown["where"]) == ("v1.4.0", "carol", "https://gitlab.example/-/jobs/7")
    assert "minilm@1, v1.4.0" in sh("show", "minilm")
    assert "v1.4.0" in sh("list")
    assert sh("publish", "out") == "minilm@1"
    assert sh.json("publish", "out")["version"] == 1
    assert sh("-q", "publish", "out") == "minilm@1"
    assert sh.err == ""
    sh("publish", "out", "--label", "latest", code=ExitCode.RECIPE)
    assert "git describe" in sh.err


def test_publishing_a_build_that_chose_nothing_ends_with_5(sh: Shell) -> None:
    build(Path("out"), fits=False)
    sh("publish", "out", code=ExitCode.OVER_BUDGET)
    assert "chose no candidate" in sh.err


def test_lists_may_be_cut(sh: Shell) -> None:
    for number in (1, 2, 3):
        published(sh, number)
    assert [line.split()[0] for line in sh("list").splitlines()] == ["minilm@1", "minilm@2", "minilm@3"]
    assert len(sh("list", "minilm", "--limit", 2).splitlines()) == 2
    assert [one["version"] for one in sh.json("list", "--limit", 1)] == [1]
    assert sh("list", "fashion") == ""


def test_one_value_for_a_script(sh: Shell) -> None:
    published(sh)
    zip_ = Path(sh("show", "minilm", "--field", "zip"))
    assert zip_.read_bytes() == b"function 1"
    assert sh("show", "minilm@1", "--field", "version") == "1"
    assert sh("show", "minilm", "--field", "architecture") == "x86_64"
    assert base64.b64decode(sh("show", "minilm", "--field", "zip_base64sha256")).hex() == zip_.name
    for field, said in (("image", "has no image"), ("s3_key", "has no s3_key"), ("layer", "has no layer"), ("colour", "no field")):
        sh("show", "minilm", "--field", field, code=ExitCode.RECIPE)
        assert said in sh.err
        assert sh.out == ""


def test_forms_that_other_programs_take(sh: Shell) -> None:
    published(sh, kind="layer-zip")
    terraform = json.loads(sh("show", "minilm", "--format", "terraform"))
    assert {type(value) for value in terraform.values()} == {str}
    assert Path(terraform["layer"]).read_bytes() == b"layer of function 1"
    formation = json.loads(sh("show", "minilm", "--format", "cloudformation"))
    assert {"ParameterKey": "Zip", "ParameterValue": terraform["zip"]} in formation
    assert json.loads(sh("show", "minilm", "--format", "json")) == sh.json("show", "minilm")
    sh("show", "minilm", "--presign", 60, code=ExitCode.RECIPE)
    assert "no URLs to sign" in sh.err
    sh("show", "minilm", "--field", "zip", "--json", code=ExitCode.RECIPE)


def test_pulling_writes_what_was_published(sh: Shell) -> None:
    published(sh)
    assert sh("pull", "minilm") == "minilm-1"
    assert Path("minilm-1", FUNCTION).read_bytes() == b"function 1"
    sh("pull", "minilm", code=ExitCode.RECIPE)
    assert "already there" in sh.err


def test_one_file_may_be_pulled(sh: Shell) -> None:
    published(sh, kind="layer-zip")
    assert sh("pull", "minilm", "--file", "zip") == "function.zip"
    assert sh("pull", "minilm", "--file", "layer", "--out", "deep/there.zip") == "deep/there.zip"
    assert Path("deep/there.zip").read_bytes() == b"layer of function 1"
    assert sh("pull", "minilm", "--file", "build.json", "--out", "b.json") == "b.json"
    assert json.loads(Path("b.json").read_text())["schema"] == 1
    for words, said in (
        (["--file", "nothing"], "has no nothing; it has"),
        (["--file", "../etc/passwd"], "has no"),
        (["--file", "zip", "--unpacked"], "exclude"),
        (["--file", "zip", "--out", "deep"], "a directory"),
    ):
        sh("pull", "minilm", *words, code=ExitCode.RECIPE)
        assert said in sh.err
    published(sh, 2, name="fashion", kind="image")
    sh("pull", "fashion", "--file", "zip", code=ExitCode.RECIPE)
    assert "is an image, which has no zip" in sh.err


def test_what_the_function_sees_may_be_pulled(sh: Shell, built: Workshop) -> None:
    assert sh("publish", built.root / "out") == "tiny@1"
    assert sh("pull", "tiny", "--unpacked", "--out", "task") == "task"
    assert Path("task/bootstrap.py").is_file()
    assert Path("task/model/model.json").is_file()
    assert not Path("task/function.zip").exists()
    assert sorted(path.name for path in Path().iterdir()) == [".mlpack", "task"]
    sh("pull", "tiny", "--unpacked", "--out", "task", code=ExitCode.RECIPE)


@pytest.mark.slow
def test_waiting_until_it_is_there(sh: Shell) -> None:
    sh("show", "minilm:prod", "--wait", 0.3, code=ExitCode.RECIPE)
    assert "no release minilm:prod" in sh.err
    build(Path("out"))
    later = [
        [sys.executable, "-m", "mlpack.cli", "publish", "out"],
        [sys.executable, "-m", "mlpack.cli", "promote", "minilm@1", "--to", "prod"],
    ]

    source = str(Path(commands.__file__).parent.parent.parent)

    def work() -> None:
        time.sleep(0.3)
        for words in later:
            subprocess.run(words, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": source})

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert sh("show", "minilm:prod", "--field", "version", "--wait", 60) == "1"
        assert sh("pull", "minilm:prod", "--wait", 60, "--out", "live") == "live"
    finally:
        worker.join()


def test_promoting_rolling_back_and_what_was_live(sh: Shell) -> None:
    for number in (1, 2):
        published(sh, number)
    assert sh("promote", "minilm@1", "--to", "prod", "--why", "first") == "minilm@1"
    assert "minilm:prod is new; revision 1" in sh.err
    assert sh("promote", "minilm@1", "--to", "prod") == "minilm@1"
    assert "at minilm@1 already" in sh.err
    moved = sh.json("promote", "minilm@2", "--to", "prod", "--expect", 1)
    assert (moved["moved"], moved["revision"], moved["previous"], moved["who"]) == (True, 2, 1, "alice")
    assert "regression.size" in sh.err
    assert sh("show", "minilm:prod", "--field", "version") == "2"
    between = moved["when"]
    time.sleep(0.01)
    assert sh("rollback", "minilm:prod", "--why", "slow") == "minilm@1"
    lines = sh("history", "minilm:prod").splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert "minilm@1  rollback, before minilm@2  by alice  slow" in lines[0]
    assert len(sh("history", "minilm:prod", "--limit", 1).splitlines()) == 1
    assert sh.json("history", "minilm:prod")[1]["gates"]
    assert sh.json("history", "minilm:prod", "--at", between)["version"] == 2
    assert "minilm@1" in sh("history", "minilm:prod", "--at", "2999-01-01")


def test_the_exit_codes_of_moves(sh: Shell) -> None:
    published(sh)
    sh("promote", "minilm@7", "--to", "prod", code=ExitCode.RECIPE)
    sh("promote", "minilm", "--to", "prod", code=ExitCode.RECIPE)
    sh("promote", "minilm@1", code=ExitCode.RECIPE)
    sh("rollback", "minilm:prod", code=ExitCode.RECIPE)
    sh("rollback", "minilm@1", code=ExitCode.RECIPE)
    sh("history", "minilm", code=ExitCode.RECIPE)
    sh("history", "minilm:prod", "--at", "yesterday", code=ExitCode.RECIPE)
    sh("promote", "minilm@1", "--to", "prod", "--expect", 3, code=ExitCode.SERVICE)
    assert "was never moved" in sh.err


def test_gates_refuse_with_5_unless_forced_with_a_reason(sh: Shell) -> None:
    published(sh)
    published(sh, 2, content=b"much larger " * 1000)
    sh("promote", "minilm@1", "--to", "prod")
    sh("promote", "minilm@2", "--to", "prod", code=ExitCode.OVER_BUDGET)
    assert "regression.size" in sh.err
    assert "--force --why" in sh.err
    assert sh.out == ""
    sh("promote", "minilm@2", "--to", "prod", "--force", code=ExitCode.RECIPE)
    forced = sh.json("promote", "minilm@2", "--to", "prod", "--force", "--why", "needed")
    assert (forced["forced"], forced["why"]) == (True, "needed")
    assert "warning: regression.size" in sh.err
    assert "  forced  needed" in sh("history", "minilm:prod")


def test_policies_are_set_shown_and_removed(sh: Shell) -> None:
    published(sh)
    published(sh, 2, content=b"much larger " * 1000)
    assert sh("registry", "policy", "show") == ""
    line = sh(
        "registry",
        "policy",
        "set",
        "minilm:prod",
        "--budget",
        "latency_p95=20ms",
        "--budget",
        "package_size=65MB",
        "--refuse",
        "size",
    )
    assert line == "minilm:prod  revision 1  latency_p95_ms=20  package_size_bytes=65,000,000  refuses size"
    assert sh("registry", "policy", "show") == line
    sh("registry", "policy", "set", "minilm:prod", "--expect", 7, code=ExitCode.SERVICE)
    sh("registry", "policy", "set", "minilm:prod", "--budget", "weight=1kg", code=ExitCode.RECIPE)
    tight = sh.json("registry", "policy", "set", "*:prod", "--budget", "package_size=1kB", "--refuse", "none")
    assert tight["budgets"] == {"package_size_bytes": 1000}
    sh("promote", "minilm@2", "--to", "prod")  # the alias's own policy decides
    sh("registry", "policy", "remove", "minilm:prod")
    sh("registry", "policy", "show", "minilm:prod", code=ExitCode.RECIPE)
    published(sh, 3, content=b"largest " * 10000)
    sh("promote", "minilm@3", "--to", "prod", code=ExitCode.OVER_BUDGET)
    assert "budget.package_size_bytes" in sh.err
    assert "regression" not in sh.err
    proof = ("registry", "policy", "set", "minilm:prod", "--budget", "isa=proven", "--budget", "accept_estimates=true")
    assert sh(*proof) == sh("registry", "policy", "show", "minilm:prod")
    assert "  accept_estimates=true  isa=proven  refuses " in sh("registry", "policy", "show", "minilm:prod")
    sh("promote", "minilm@3", "--to", "prod", code=ExitCode.OVER_BUDGET)
    assert "budget.isa: the build has no proof" in sh.err


def test_a_registry_is_verified(sh: Shell) -> None:
    published(sh)
    assert sh("verify") == ""
    assert "1 release" in sh.err
    Path(sh("show", "minilm", "--field", "zip")).write_bytes(b"x")
    assert "damaged" in sh("verify", code=ExitCode.SERVICE)
    assert len(sh.json("verify", code=ExitCode.SERVICE)["findings"]) == 1


def test_collecting_says_what_it_would_do_and_does_it_when_told(sh: Shell) -> None:
    for number in (1, 2):
        published(sh, number)
    everything = ("gc", "--keep", 1, "--days", 0, "--grace", 0)
    assert sh(*everything) == ""
    assert "2 releases kept" in sh.err  # younger than an hour
    assert sh.json(*everything, "--yes")["removed"] is True
    assert len(sh("list").splitlines()) == 2


@pytest.mark.slow
def test_what_runs_in_aws_is_kept_of_a_directory_too(sh: Shell, aws: AwsServer) -> None:
    published(sh)
    assert sh.json("gc", "--live-aws")["kept"][0]["release"] == "minilm@1"
    assert {request.service for request in aws.log()} == {"lambda", "ecs"}
    aws.plan(Fault("error", service="lambda", status=403, code="AccessDeniedException", onward=True))
    sh("gc", "--live-aws", code=ExitCode.SERVICE)
    assert "lambda:" in sh.err


def test_registry_in_a_directory_remembers_where_its_images_go(sh: Shell, server: FakeRegistry) -> None:
    images, create = f"{server.host}/team", ("registry", "create", ".mlpack/registry")
    both = [f"write the registry's format ({SCHEMA})", f"send images to {images}"]
    assert sh(*create, "--images", images, "--dry-run").splitlines() == both
    assert not Path(".mlpack/registry").exists()
    assert sh.json(*create, "--images", images) == {"url": create[2], "changes": both, "made": True}
    assert sh(*create, "--images", images) == sh(*create) == ""
    assert "lacks nothing" in sh.err
    reference = published(sh, kind="image")
    image = sh("show", reference, "--field", "image")
    assert image.startswith(f"{images}/minilm@sha256:")
    assert sh("verify") == ""
    assert "1 image;" in sh.err
    assert sh("pull", "minilm") == "minilm-1"
    assert (Path("minilm-1", "artifacts", "int8@lambda-image-x86_64", "image", "oci-layout")).is_file()
    assert sh(*create, "--images", f"{server.host}/other") == f"send images to {server.host}/other"
    sh(*create, "--images", "nowhere", code=ExitCode.RECIPE)
    assert "say the host too" in sh.err
    for words in (["--region", "eu-west-1"], ["--kms-key", "x"], ["--tag", "a=b"], ["--cache-days", 3]):
        sh(*create, *words, code=ExitCode.RECIPE)
        assert "is a directory" in sh.err
    Path("file").touch()
    sh("registry", "create", "file", code=ExitCode.RECIPE)
    assert "not a directory" in sh.err


def test_images_of_one_publication_are_found_where_record_says(sh: Shell, server: FakeRegistry) -> None:
    sh("registry", "create", ".mlpack/registry")
    build(Path("out"), kind="image")
    images = f"{server.host}/team"
    assert sh("publish", "out", "--images", images) == "minilm@1"
    assert f"mlpack registry create .mlpack/registry --images {images}" in sh.err
    assert sh("verify") == ""
    assert "1 image; 0 wrong" in sh.err
    assert sh("publish", "out") == "minilm@1"
    assert sh("verify") == ""
    assert sh("registry", "export", "exported") == "exported"
    sh("registry", "create", ".mlpack/registry", "--images", f"{server.host}/elsewhere")
    assert sh("verify") == ""
    build(Path("other"), kind="image", content=b"other")
    assert sh("publish", "other") == "minilm@2"
    assert "registry create" not in sh.err
    server.manifests.clear()
    assert "missing; publish the same build again" in sh("verify", code=ExitCode.SERVICE)


def test_who_gives_no_answer_about_an_image_has_not_lost_it(sh: Shell, server: FakeRegistry) -> None:
    build(Path("out"), kind="image")
    sh("publish", "out", "--images", f"{server.host}/team")
    server.switches.auth = "basic"
    said = sh("verify", code=ExitCode.UNASKED)
    assert "could not be asked for" in said
    assert "nothing is known to be wrong with it" in said
    assert f"no credentials for {server.host}: mlpack looked in" in said
    assert "0 wrong; 1 image could not be asked for" in sh.err
    report = json.loads(sh("verify", "--json", code=ExitCode.UNASKED))
    assert (report["findings"], [each["what"] for each in report["images_unasked"]]) == ([], ["image"])
    next(path for path in Path(".mlpack/registry/blobs").rglob("*") if path.is_file()).unlink()
    assert len(sh("verify", code=ExitCode.SERVICE).splitlines()) == 2


def test_a_container_registry_that_removes_nothing_is_a_warning(
    sh: Shell, server: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sh("registry", "create", ".mlpack/registry", "--images", f"{server.host}/team")
    gone = [sh("show", published(sh, number, kind="image"), "--field", "image") for number in (1, 2, 3)]
    server.switches.failures = [("DELETE", "manifests", 405)] * 4
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 100 * 24 * 3600)
    everything = ("gc", "--keep", 1, "--days", 0, "--grace", 0, "--yes")
    sh(*everything)
    assert "warning: 2 images without a release stay in the container registry" in sh.err
    assert "storage.delete.enabled" in sh.err
    made = sh.json(*everything)
    assert sorted(each["image"] for each in made["refused"]) == sorted(gone[:2])
    assert sh("list").split()[0] == "minilm@3"
    assert sh("verify") == ""
    assert sh.json(*everything)["refused"] == []
    assert sh.json("gc")["images"] == []


def test_everything_that_was_done_is_told(sh: Shell) -> None:
    published(sh)
    sh("promote", "minilm@1", "--to", "prod")
    sh("registry", "policy", "set", "minilm:prod")
    assert [line.split("  ")[1] for line in sh("registry", "audit").splitlines()] == ["publish", "promote", "policy set"]
    assert sh.json("registry", "audit", "--since", "2999-01-01") == []
    assert sh("registry", "migrate") == "3"


def test_registries_are_carried_to_others(sh: Shell) -> None:
    published(sh)
    sh("promote", "minilm@1", "--to", "prod")
    assert sh("registry", "export", "all.tar") == "all.tar"
    assert sh("registry", "import", "all.tar", "--registry", "other") == "minilm@1"
    assert sh.json("registry", "import", "all.tar", "--registry", "other")["known"] == 1
    assert sh("show", "minilm:prod", "--field", "version", "--registry", "other") == "1"
    assert [move["who"] for move in sh.json("history", "minilm:prod", "--registry", "other")] == ["alice"]


@pytest.mark.slow
def test_a_registry_on_aws_from_nothing(sh: Shell, aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "s3://models/team?table=registry"
    assert "make the bucket models in eu-central-1" in sh("registry", "create", url, "--dry-run")
    assert sh.json("registry", "create", url, "--tag", "team=search")["made"] is True
    assert sh("registry", "create", url, "--tag", "team=search") == ""
    assert "lacks nothing" in sh.err
    monkeypatch.setenv("MLPACK_REGISTRY", url)
    for number in (1, 2):
        assert published(sh, number) == f"minilm@{number}"
        assert sh("promote", f"minilm@{number}", "--to", "prod") == f"minilm@{number}"
    aws.clear_log()
    assert sh("show", "minilm:prod", "--field", "zip").startswith("s3://models/team/blobs/")
    assert [request.operation for request in aws.log()] == ["Query"]
    terraform = json.loads(sh("show", "minilm:prod", "--format", "terraform"))
    assert (terraform["s3_bucket"], terraform["zip"]) == ("models", f"s3://models/{terraform['s3_key']}")
    with urllib.request.urlopen(sh("show", "minilm:prod", "--presign", 60)) as answer:
        assert answer.read() == b"function 2"
    assert sh("rollback", "minilm:prod", "--expect", 2) == "minilm@1"
    assert sh("pull", "minilm:prod", "--out", "live") == "live"
    assert Path("live", FUNCTION).read_bytes() == b"function 1"
    assert sh("verify") == ""
    assert sh.json("gc", "--live-aws")["releases"] == []
    assert len(sh("registry", "audit").splitlines()) == 5
    aws.plan(Fault("error", service="s3", onward=True, status=403, code="AccessDenied"))
    assert sh("rollback", "minilm:prod", code=ExitCode.RECIPE) == ""  # said by the table alone
    assert "nothing good was live" in sh.err
    sh("pull", "minilm:prod", "--out", "again", code=ExitCode.SERVICE)
    assert "s3:GetObject" in sh.err


@pytest.mark.parametrize(("what", "said"), [("cloudformation", "Resources"), ("terraform", "resource"), ("iam", "promoter")])
def test_what_others_are_to_make_is_printed(sh: Shell, what: str, said: str) -> None:
    url = "s3://models/team?table=registry&region=eu-west-1"
    assert said in json.loads(sh("registry", "create", url, "--print", what, "--images", "ecr.example/team"))
    for wrong in (["--tag", "team"], ["--kms-key", "mine"]):
        sh("registry", "create", url, "--print", what, *wrong, code=ExitCode.RECIPE)
    sh("registry", "create", "here", "--print", what, code=ExitCode.RECIPE)


@pytest.mark.parametrize("words", [["show"], ["pull"], ["promote"], ["rollback"], ["history"], ["gc"], ["verify"], ["registry"]])
def test_every_verb_has_help(sh: Shell, words: list[str]) -> None:
    assert "Usage" in sh(*words, "--help")


def test_fields_complete() -> None:
    from click.shell_completion import ShellComplete

    completed = ShellComplete(commands.cli, {}, "mlpack", "_MLPACK_COMPLETE").get_completions(["show", "minilm", "--field"], "zip")
    assert [item.value for item in completed] == ["zip", "zip_base64sha256"]


@pytest.mark.parametrize("option", ["--days", "--window", "--grace"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-1", "\u0663", "5d", ""])
def test_age_that_is_no_number_of_days_is_refused(tmp_path: Path, option: str, value: str) -> None:
    """With `--grace nan` nothing was too young to be removed."""
    with pytest.raises(click.BadParameter) as caught:
        commands.cli.main(["gc", option, value, "--registry", str(tmp_path / "r")], standalone_mode=False)
    assert caught.value.param is not None
    assert option in caught.value.param.opts
