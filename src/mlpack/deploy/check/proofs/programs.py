"""What Terraform, CDK and checkov say, where they are installed.

Promises: nothing is applied, and nothing leaves the machine: Terraform's providers are those that lie on it, and it plans only
against an emulator on loopback, in a time limit, in a directory of its own. A tool that is not there, or lacks its provider, could
not run: that is no failure.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlpack.core.environment import Environment
from mlpack.core.files import temporary
from mlpack.deploy.check.proofs.own import CFN, TF
from mlpack.deploy.check.records import Finding, Proof, proof
from mlpack.deploy.check.waivers import WAIVERS

LIMIT_S = 120
_SHARED = "/usr/local/share:/usr/share"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_INCLUDE = """
const {App, Stack} = require('aws-cdk-lib');
const {CfnInclude} = require('aws-cdk-lib/cloudformation-include');
const app = new App({outdir: process.argv[1]});
new CfnInclude(new Stack(app, 'Service'), 'All', {templateFile: process.argv[2]});
app.synth();
"""


class _ToolError(Exception):
    """A tool could not run; the message says why and what to do."""


def program_proofs(root: Path, environ: Mapping[str, str]) -> Iterator[Proof]:
    """All of them, in order. `environ`: what the tools see."""
    runner = _Runner(root, environ)
    for name, findings in (
        ("terraform validate", runner.validate),
        ("terraform plan", runner.plan),
        ("cdk synth", runner.synth),
        ("checkov", runner.checkov),
    ):
        try:
            yield proof(name, tuple(findings()))
        except _ToolError as error:
            yield Proof(name, "could not run", why=str(error))


def _provider_folders(environ: Mapping[str, str], work: Path) -> tuple[Path, ...]:
    """Where Terraform looks for providers on this machine; given to it as `-plugin-dir`, they are all it looks at: no registry is
    asked. Never none, because Terraform would then ask one."""
    home = environ.get("HOME", "")
    shared = [environ.get("XDG_DATA_HOME") or f"{home}/.local/share", *(environ.get("XDG_DATA_DIRS") or _SHARED).split(":")]
    places = [f"{home}/.terraform.d/plugins", f"{home}/Library/Application Support/io.terraform/plugins"]
    places += [*(f"{each}/terraform/plugins" for each in shared), environ.get("TF_PLUGIN_CACHE_DIR", "")]
    return tuple(Path(each) for each in dict.fromkeys(places) if each.startswith("/") and Path(each).is_dir()) or (work,)


class _Runner:
    """Runs the tools over one directory."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = {key: value for key, value in environ.items() if key not in ("TF_DATA_DIR", "TF_WORKSPACE")}
        if not Path(self._environ.get("TF_CLI_CONFIG_FILE") or "/").is_file():
            self._environ.pop("TF_CLI_CONFIG_FILE", None)  # Terraform would warn, and go on with none
        self._programs = Environment(environ)

    def validate(self) -> Iterator[Finding]:
        """The provider's own schema, and references between resources."""
        with temporary.directory("terraform") as work:
            terraform = self._terraform(work)
            done = self._run([terraform, "validate", "-json"], work)
            for each in _json(done.stdout, "terraform validate").get("diagnostics", ()):
                if each.get("severity") == "error":
                    place = (each.get("snippet") or {}).get("context") or ""
                    yield Finding(TF, place, " ".join(f"{each.get('summary')}: {each.get('detail')}".split()))

    def plan(self) -> Iterator[Finding]:
        """What would be made, against an emulator."""
        endpoint = self._environ.get("AWS_ENDPOINT_URL", "")
        if urlsplit(endpoint).hostname not in _LOOPBACK:
            raise _ToolError("it asks AWS: set AWS_ENDPOINT_URL to an emulator on this machine, such as moto_server")
        with temporary.directory("terraform") as work:
            terraform = self._terraform(work)
            words = [terraform, "plan", "-json", "-input=false", "-lock=false", "-refresh=false"]
            words += [f"-var-file={path}" for path in sorted(self._root.absolute().glob("*.tfvars.json"))]
            own = {"AWS_ACCESS_KEY_ID": "mlpack", "AWS_SECRET_ACCESS_KEY": "mlpack", "AWS_EC2_METADATA_DISABLED": "true"}
            done = self._run(words, work, own)
            for line in done.stdout.splitlines():
                each = _json(line, "terraform plan") if line.startswith("{") else {}
                if each.get("@level") == "error":
                    said = each.get("diagnostic") or {}
                    yield Finding(
                        TF, str(said.get("address") or ""), " ".join(f"{each.get('@message')}: {said.get('detail')}".split())
                    )

    def _terraform(self, work: Path) -> str:
        program = self._programs.program("terraform")
        if program is None:
            raise _ToolError("terraform is not installed")
        if not (self._root / TF).is_file():
            raise _ToolError(f"there is no {TF}")
        shutil.copyfile(self._root / TF, work / TF)
        patient = {"provider": {"aws": {"max_retries": 1, "skip_region_validation": True, "region": "us-east-1"}}}
        (work / "check_override.tf.json").write_text(json.dumps(patient))
        words = ["init", "-backend=false", "-get=false", "-input=false", "-no-color"]
        words += [f"-plugin-dir={each}" for each in _provider_folders(self._environ, work)]
        done = self._run([str(program), *words], work)
        if done.returncode == 0:
            return str(program)
        said = " ".join(done.stderr.split())
        if "provider" in said:
            raise _ToolError(
                "its provider is not on this machine: `terraform providers mirror DIR`, and TF_CLI_ARGS_init=-plugin-dir=DIR"
            )
        raise _ToolError(f"terraform init ended with {done.returncode}: {said.removeprefix('Error: ')[:120]}")

    def synth(self) -> Iterator[Finding]:
        """That CDK can include the template."""
        node = self._programs.program("node")
        if node is None:
            raise _ToolError("node is not installed")
        with temporary.directory("cdk") as work:
            template = (self._root / CFN).absolute()
            found = self._run([str(node), "-e", "require.resolve('aws-cdk-lib')"], self._root)
            if found.returncode != 0:
                raise _ToolError(
                    "aws-cdk-lib is not installed here: npm install aws-cdk-lib constructs, and set NODE_PATH to node_modules"
                )
            done = self._run([str(node), "-e", _INCLUDE, str(work / "out"), str(template)], self._root)
            if done.returncode != 0:
                error = next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr[-200:])
                yield Finding(CFN, "", f"CfnInclude: {error.strip()}")

    def checkov(self) -> Iterator[Finding]:
        """Opinions on security, but for those that are waived with a reason."""
        program = self._programs.program("checkov")
        if program is None:
            raise _ToolError("checkov is not installed: pipx install checkov")
        words = [str(program), "-f", str((self._root / CFN).absolute()), "--framework", "cloudformation", "-o", "json", "--compact"]
        done = self._run([*words, "--skip-download", "--quiet"], self._root)
        result = _json(done.stdout, "checkov")
        for each in (result.get("results") or {}).get("failed_checks") or ():
            if each.get("check_id") not in WAIVERS:
                yield Finding(
                    CFN, f"Resources.{str(each.get('resource')).rpartition('.')[2]}", f"{each['check_id']} {each['check_name']}"
                )

    def _run(self, words: list[str], work: Path, own: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environ = {**self._environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **(own or {})}
        try:
            return subprocess.run(
                words, cwd=work, env=environ, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise _ToolError(f"{Path(words[0]).name} took longer than {LIMIT_S} s") from None
        except OSError as error:
            raise _ToolError(f"{Path(words[0]).name}: {error}") from None


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise _ToolError(f"{name} said no JSON: {' '.join(text.split())[:200]}") from None
    return value if isinstance(value, dict) else {}
