"""Writes `eval.npz` and `calib.npz` beside this file.

    python -m sample_models.fashion.make_data

The first 2,000 test pictures with their labels, and the first 512 training pictures. The first ones, because the
authors published both sets shuffled: anyone can check the choice, and no seed was chosen for it.
"""

from pathlib import Path

from sample_models.fashion.idx import read_split
from sample_models.npz import write_npz

HERE = Path(__file__).parent
EVALUATION, CALIBRATION = 2000, 512


def main() -> None:
    try:
        test, labels = read_split("t10k")
        train, _ = read_split("train")
    except FileNotFoundError as error:
        raise SystemExit(f"make_data: {error}") from error
    write_npz(HERE / "eval.npz", {"image": test[:EVALUATION], "labels": labels[:EVALUATION]})
    write_npz(HERE / "calib.npz", {"image": train[:CALIBRATION]})


if __name__ == "__main__":
    main()
