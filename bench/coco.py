"""`map_50` and `map_50_95` against pycocotools, COCO's own implementation, on random pictures: `python bench/coco.py`.

Needs `pip install pycocotools`, which mlpack itself does not. Prints the largest difference; ends with 1 where it is above 1e-9.
"""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import numpy as np

from mlpack.evaluation import metrics

ROUNDS, PICTURES, CLASSES = 60, 12, 4


def drawn(random: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """Truth, and detections that are near some of it: [class, corners] and [corners, score, class]."""
    truth, found = [], []
    for _ in range(PICTURES):
        count = int(random.integers(0, 8))
        corners = random.uniform(0, 80, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(2, 40, (count, 2))], axis=1)
        classes = random.integers(0, CLASSES, count)
        truth.append([[int(c), *map(float, box)] for c, box in zip(classes, boxes, strict=True)])
        rows = []
        for c, box in zip(classes, boxes, strict=True):
            for _again in range(int(random.integers(0, 3))):
                moved = box + random.normal(0, random.choice([0.5, 3, 10]), 4)
                kind = int(c) if random.random() < 0.85 else int(random.integers(0, CLASSES))
                corners_of = [*np.minimum(moved[:2], moved[2:]), *np.maximum(moved[:2], moved[2:])]
                rows.append([*corners_of, random.random(), kind])
        for _false in range(int(random.integers(0, 120))):
            corner = random.uniform(0, 100, 2)
            rows.append([*corner, *(corner + random.uniform(1, 30, 2)), random.random() * 0.7, int(random.integers(0, CLASSES))])
        found.append(rows)
    return truth, found


def ours(truth: list[Any], found: list[Any], name: str) -> float:
    """mlpack's."""
    calls = [
        {
            "boxes": np.array([row[:4] for row in rows]).reshape(-1, 4),
            "scores": np.array([row[4] for row in rows]),
            "classes": np.array([row[5] for row in rows], np.int64),
        }
        for rows in found
    ]
    return metrics.evaluate(metrics.find(name), calls, truth, samples=[1] * len(calls)).value


def theirs(truth: list[Any], found: list[Any]) -> tuple[float, float]:
    """COCO's AP at 0.5 and at 0.5 to 0.95."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sized(box: Any) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    whole = COCO()
    boxes = [(index, row) for index, rows in enumerate(truth) for row in rows]
    whole.dataset = {
        "images": [{"id": index} for index in range(len(truth))],
        "categories": [{"id": each} for each in range(CLASSES)],
        "annotations": [
            {"id": n + 1, "image_id": index, "category_id": row[0], "bbox": sized(row[1:]), "area": 1.0, "iscrowd": 0}
            for n, (index, row) in enumerate(boxes)
        ],
    }
    whole.createIndex()
    results = whole.loadRes(
        [
            {"image_id": index, "category_id": row[5], "bbox": sized(row), "score": row[4]}
            for index, rows in enumerate(found)
            for row in rows
        ]
    )
    judged = COCOeval(whole, results, "bbox")
    judged.params.areaRng, judged.params.areaRngLbl = [[0, 1e10]], ["all"]
    judged.evaluate()
    judged.accumulate()
    precision = judged.eval["precision"][..., 0, -1]
    return tuple(float(part[part > -1].mean()) for part in (precision[0], precision))  # type: ignore[return-value]


def main() -> int:
    """The largest difference over the rounds."""
    random = np.random.default_rng(0)
    worst = 0.0
    for _ in range(ROUNDS):
        truth, found = drawn(random)
        with contextlib.redirect_stdout(io.StringIO()):
            wanted = theirs(truth, found)
        for name, value in zip(("map_50", "map_50_95"), wanted, strict=True):
            worst = max(worst, abs(ours(truth, found, name) - value))
    sys.stdout.write(f"{ROUNDS} rounds of {PICTURES} pictures: largest difference from pycocotools {worst:.2e}\n")
    return int(worst > 1e-9)


if __name__ == "__main__":
    raise SystemExit(main())
