"""What kserve's InferenceRESTClient gets from servers: `python kserve_client.py NUMBERS TEXTS [...]`, a JSON list on stdout.

A program for the clients' own environment; the arguments are those of `triton_client`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def told_by(numbers_at: str, texts_at: str) -> dict[str, Any]:
    """Everything that an entrance answers, by the name of what was asked."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=60))
    numbers, texts = f"http://{numbers_at}", f"http://{texts_at}"

    def request(*, binary: bool, pixels: Any = ((1, 2, 3, 4), (4, 3, 2, 1))) -> InferRequest:
        rows = np.array(pixels, np.float32)
        one, other = InferInput("pixels", list(rows.shape), "FP32"), InferInput("marks", [len(rows)], "INT64")
        one.set_data_from_numpy(rows, binary_data=binary)
        other.set_data_from_numpy(np.full(len(rows), 2), binary_data=binary)
        return InferRequest(model_name="tiny", infer_inputs=[one, other], parameters={"binary_data_output": binary})

    async def refusal(model: str, given: InferRequest) -> str:
        try:
            await client.infer(numbers, given, model_name=model)
        except Exception as error:  # noqa: BLE001  (its text is what is asked for)
            return str(error)
        return "nothing was refused"

    told: dict[str, Any] = {
        "live": await client.is_server_live(numbers),
        "ready": await client.is_server_ready(numbers),
        "model ready": await client.is_model_ready(numbers, "tiny"),
    }
    for name, binary in (("json", False), ("binary", True)):
        answer = await client.infer(numbers, request(binary=binary), model_name="tiny")
        scores = next(output for output in answer.outputs if output.name == "scores").as_numpy()
        told[name] = [[round(float(value), 4) for value in row] for row in scores]
    answer = await client.infer(numbers, request(binary=True, pixels=[[float("nan"), 1, 1, 1]]), model_name="tiny")
    told["nan"] = bool(np.isnan(answer.outputs[0].as_numpy()).all())
    told["wrong shape"] = await refusal("tiny", request(binary=True, pixels=[[1, 2]]))
    told["wrong name"] = await refusal("other", request(binary=False))
    for name, binary in (("bytes", True), ("strings", False)):
        given = InferInput("text", [2], "BYTES")
        given.set_data_from_numpy(np.array(["the cat", "żółw €"], object), binary_data=binary)
        answer = await client.infer(texts, InferRequest(model_name="tiny", infer_inputs=[given]), model_name="tiny")
        told[name] = [[round(float(value), 4) for value in row] for row in answer.outputs[0].as_numpy()]
    await client.close()
    return told


if __name__ == "__main__":
    pairs = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
    print(json.dumps([asyncio.run(told_by(*pair)) for pair in pairs]))
