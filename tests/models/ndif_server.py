"""A server on loopback that speaks NDIF's protocol and runs traces on models in this process: a stand-in for tests.

GET /status, POST /request and the websocket /subscribe as nnsight's client calls them. Told to fail, it answers a job
with an error.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import torch
import uvicorn
import zstandard
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing.tracer import dec, inc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class NdifServer:
    """`models`: what it runs, by repository name."""

    def __init__(self, models: dict[str, TransformersModel], key: str) -> None:
        self.models, self.key = models, key
        self.failure: str | None = None
        self.jobs: list[str] = []
        self._sockets: dict[str, WebSocket] = {}
        self.app = Starlette(
            routes=[
                Route("/status", self._status),
                Route("/request", self._request, methods=["POST"]),
                WebSocketRoute("/subscribe", self._subscribe),
            ]
        )

    async def _status(self, request: Request) -> JSONResponse:
        up = {"revision": "main", "deployment_level": "HOT", "application_state": "RUNNING"}
        found = {name: {**up, "repo_id": name, "task": "text-generation"} for name in self.models}
        cold = {"cold/model": {**up, "repo_id": "cold/model", "application_state": "DEPLOYING"}}
        return JSONResponse({"deployments": found | cold})

    async def _subscribe(self, websocket: WebSocket) -> None:
        await websocket.accept()
        session = str(uuid.uuid4())
        self._sockets[session] = websocket
        await websocket.send_text(json.dumps({"session_id": session}))
        with contextlib.suppress(WebSocketDisconnect):
            await websocket.receive_text()

    async def _request(self, request: Request) -> JSONResponse:
        if request.headers.get("ndif-api-key") != self.key:
            return JSONResponse({"detail": "this key is not known"}, status_code=401)
        async with request.form() as form:
            asked = RequestModel.model_validate_json(str(form["data"]))
            blob = await form["blob"].read()  # type: ignore[union-attr]
        name = json.loads(asked.model_key.split(":", 1)[1])["repo_id"]
        self.jobs.append(name)
        job = str(uuid.uuid4())
        if self.failure is None:
            data = io.BytesIO()
            torch.save(self._run(self.models[name], blob, asked.compress), data)
            result = (
                zstandard.ZstdCompressor().compress(data.getvalue()) if asked.compress else data.getvalue()
            )
            done = ResponseModel(id=job, status=Status.COMPLETED, data=result)
        else:
            done = ResponseModel(id=job, status=Status.ERROR, description=self.failure)
        await self._sockets[asked.session_id].send_bytes(done.pickle())
        return JSONResponse({"id": job, "status": "RECEIVED", "description": ""})

    @staticmethod
    def _run(model: TransformersModel, blob: bytes, compress: bool) -> dict[str, Any]:
        """Run a trace and give what it saved."""
        tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), compress)
        before = set(tracer.info.frame.f_locals)
        inc()  # saving is allowed within a trace only
        try:
            with torch.no_grad():
                tracer.execute(tracer.info.code)
        finally:
            dec()
        return {name: value for name, value in tracer.info.frame.f_locals.items() if name not in before}


@contextlib.contextmanager
def serving(server: NdifServer) -> Iterator[str]:
    """Its address while it runs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        runner = uvicorn.Server(uvicorn.Config(server.app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not runner.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        runner.should_exit = True
        thread.join(timeout=10)
