"""What tritonclient gets from a repository of models: `python triton_repository.py HOST:PORT`, JSON on stdout.

A program for the clients' own environment. The models `one` and `two` take `x`, FP32 [batch, 4].
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as client


def told_by(address: str) -> dict[str, Any]:
    """Everything that is answered, by the name of what was asked."""
    server = client.InferenceServerClient(address)

    def scores(model: str) -> list[Any]:
        given = client.InferInput("x", [1, 4], "FP32")
        given.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32))
        return [float(value) for value in server.infer(model, [given]).as_numpy("y").ravel()]

    def refusal(call: Any) -> str:
        try:
            call()
        except client.InferenceServerException as error:
            return f"{error.status()} {error.message()}"
        return "nothing was refused"

    told: dict[str, Any] = {
        "extensions": server.get_server_metadata()["extensions"],
        "index": server.get_model_repository_index(),
        "ready": [server.is_model_ready(name) for name in ("one", "two", "three")],
        "metadata": server.get_model_metadata("two")["name"],
        "scores": [scores("one"), scores("two")],
    }
    told["both"] = {row["name"]: row["reason"] for row in server.get_model_repository_index()}
    server.unload_model("two")
    told["unloaded"] = [server.is_model_ready("two"), refusal(lambda: scores("two"))]
    server.load_model("two")
    told["again"] = [server.is_model_ready("two"), scores("two")]
    told["unknown"] = refusal(lambda: server.load_model("three"))
    told["config"] = refusal(lambda: server.load_model("one", config="{}"))
    server.close()
    return told


if __name__ == "__main__":
    print(json.dumps(told_by(sys.argv[1])))
