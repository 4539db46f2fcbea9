"""Everything that ships of MiniLM int8 except the base, uncompressed, beside the same model with the engine as pip leaves it.

The bytes are build.json's, and counted again from the zip by Python's own zipfile. Figure: at most 65,000,000.
"""

from __future__ import annotations

import sys
import zipfile

from common import MINILM, Row, install_wheels, parser, place, report, scratch, stock_int8_minilm

FIGURE_BYTES = 65_000_000


def main() -> int:
    """Build, count, print."""
    options = parser(__doc__).parse_args()
    here = place(options)
    rows = []
    with scratch() as work:
        record = here.build(MINILM, work / "out", "--only", "int8@*", "--keep", "all")
        for candidate in record["candidates"]:
            package = candidate["package"]
            if not candidate["id"].startswith("int8@"):
                continue
            compressed = f"{package['compressed_bytes']:,} compressed"
            rows.append(row(candidate["id"], package["size_bytes"], compressed, at_most=FIGURE_BYTES))
            for part, size in package["parts"].items():
                if size:
                    rows.append(row(f"  {part}", size, "not counted" if part == "base" else ""))
        (archive,) = (work / "out/artifacts").glob("int8@lambda-zip-*/function.zip")
        with zipfile.ZipFile(archive) as opened:
            rows.append(row("  the zip's files, by zipfile", sum(info.file_size for info in opened.infolist()), ""))
        install_wheels(work / "stock", ["awslambdaric", "onnxruntime==1.31.1", "numpy", "tokenizers==0.22.2"], here.python_version)
        model = [stock_int8_minilm() / name for name in ("model_quantized.onnx", "tokenizer.json")]
        stock = sum(path.stat().st_size for path in [*(work / "stock").rglob("*"), *model] if path.is_file())
        rows.append(row("awslambdaric, onnxruntime, numpy, tokenizers and the model, by pip", stock, "without bytecode"))
    return report("package_size", rows, "MiniLM int8, uncompressed bytes of everything that ships except the base", options.out)


def row(name: str, size_bytes: int, detail: str, at_most: int | None = None) -> Row:
    """A size as a row."""
    return Row(name=name, value=size_bytes, unit="bytes", detail=detail, at_most=at_most)


if __name__ == "__main__":
    sys.exit(main())
