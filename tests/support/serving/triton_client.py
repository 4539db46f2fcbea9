"""What tritonclient gets from servers: `python triton_client.py sync|aio NUMBERS TEXTS [NUMBERS TEXTS ...]`, a JSON list on stdout.

A program for the clients' own environment. NUMBERS and TEXTS are HOST:PORT of the two packages of `entrances`, of one entrance
after the other. It is the same for the synchronous and the asynchronous client: what a call gives is waited for where it can be.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any

import numpy as np

PIXELS = [[1, 2, 3, 4], [4, 3, 2, 1]]


async def told_by(kind: str, numbers_at: str, texts_at: str) -> dict[str, Any]:
    """Everything that an entrance answers, by the name of what was asked."""
    if kind == "aio":
        import tritonclient.http.aio as client
    else:
        import tritonclient.http as client
    server = client.InferenceServerClient(numbers_at)

    async def call(name: str, *arguments: Any, **more: Any) -> Any:
        given = getattr(server, name)(*arguments, **more)
        return await given if inspect.isawaitable(given) else given

    def numbers(*, binary: bool, pixels: Any = PIXELS) -> list[Any]:
        rows = np.array(pixels, np.float32)
        one, other = client.InferInput("pixels", list(rows.shape), "FP32"), client.InferInput("marks", [len(rows)], "INT64")
        one.set_data_from_numpy(rows, binary_data=binary)
        other.set_data_from_numpy(np.full(len(rows), 2), binary_data=binary)
        return [one, other]

    def texts(name: str, *, binary: bool) -> Any:
        given = client.InferInput(name, [2], "BYTES")
        given.set_data_from_numpy(np.array(["the cat", "żółw €"], object), binary_data=binary)
        return given

    def scores(result: Any) -> list[Any]:
        return [[round(float(value), 4) for value in row] for row in result.as_numpy("scores")]

    async def refusal(name: str, *arguments: Any, **more: Any) -> str:
        try:
            await call(name, *arguments, **more)
        except Exception as error:  # noqa: BLE001  (its text is what is asked for)
            return f"{error.status()} {error}" if hasattr(error, "status") else f"{type(error).__name__} {error}"
        return "nothing was refused"

    told: dict[str, Any] = {}
    told["live"], told["ready"] = await call("is_server_live"), await call("is_server_ready")
    told["model ready"], told["other ready"] = await call("is_model_ready", "tiny"), await call("is_model_ready", "other")
    told["server"] = await call("get_server_metadata")
    told["model"] = await call("get_model_metadata", "tiny", "3")
    json_outputs = [client.InferRequestedOutput("scores", binary_data=False)]
    told["json"] = scores(await call("infer", "tiny", numbers(binary=False), outputs=json_outputs))
    told["binary"] = scores(await call("infer", "tiny", numbers(binary=True)))
    for coding in ("gzip", "deflate"):
        given = numbers(binary=True)
        told[coding] = scores(await call("infer", "tiny", given, request_compression_algorithm=coding))
    told["gzip back"] = scores(await call("infer", "tiny", numbers(binary=True), response_compression_algorithm="gzip"))
    result = await call("infer", "tiny", numbers(binary=True, pixels=[[float("nan"), 1, 1, 1]]), request_id="r-1")
    told["nan"] = [bool(np.isnan(result.as_numpy("scores")).all()), result.get_response()["id"]]
    classes = client.InferRequestedOutput("scores", class_count=2)
    result = await call("infer", "tiny", numbers(binary=True), outputs=[classes])
    told["classes"] = [[text.decode().split(":")[1] for text in row] for row in result.as_numpy("scores")]
    told["count of classes"] = await refusal(
        "infer", "tiny", numbers(binary=True), outputs=[client.InferRequestedOutput("count", class_count=2)]
    )
    shared = client.InferRequestedOutput("scores")
    shared.set_shared_memory("region", 24)
    told["shared memory"] = await refusal("infer", "tiny", numbers(binary=True), outputs=[shared])
    told["wrong shape"] = await refusal("infer", "tiny", numbers(binary=True, pixels=[[1, 2]]))
    told["wrong name"] = await refusal("infer", "other", numbers(binary=True))
    told["many"] = await _many(call, numbers)
    await _close(server)

    server = client.InferenceServerClient(texts_at)
    told["texts"] = [(row["name"], row["datatype"], row["shape"]) for row in (await call("get_model_metadata", "tiny"))["inputs"]]
    for name, binary in (("bytes", True), ("strings", False)):
        result = await call("infer", "tiny", [texts("text", binary=binary)])
        told[name] = [[round(float(value), 4) for value in row] for row in result.as_numpy("embedding")]
    result = await call("infer", "tiny", [texts("text", binary=True), texts("text_pair", binary=True)])
    told["pairs"] = list(result.as_numpy("embedding").shape)
    await _close(server)
    return told


async def _many(call: Any, numbers: Any) -> int:
    """Some calls at once, where the client can; how many different answers."""
    calls = [call("infer", "tiny", numbers(binary=True)) for _ in range(20)]
    return len({str((await each).as_numpy("scores").tolist()) for each in asyncio.as_completed(calls)})


async def _close(server: Any) -> None:
    closed = server.close()
    if inspect.isawaitable(closed):
        await closed


if __name__ == "__main__":
    kind, *places = sys.argv[1:]
    pairs = zip(places[::2], places[1::2], strict=True)
    print(json.dumps([asyncio.run(told_by(kind, *pair)) for pair in pairs]))
