"""A hub on the loopback interface, and small networks with random weights to put on it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Server:
    """A server of files; answers like the hub for paths `/owner/name/resolve/main/FILE`.

    Attributes:
        files: path -> content.
        cut: paths of which only the first half is sent, after a promise of the whole.
        asked: (verb, path) of every request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def put(self, repository: str, file: str, content: bytes) -> None:
        self.files[f"/{repository}/resolve/main/{file}"] = content

    def repositories(self) -> set[str]:
        return {"/".join(path.split("/")[1:3]) for path in self.files}


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing: the tests' output stays readable."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            server.asked.append((self.command, self.path))
            content = server.files.get(self.path)
            if content is None:
                repository = "/".join(self.path.split("/")[1:3])
                self.send_response(404)
                known = repository in server.repositories()
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if self.path in server.cut else content)

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers until the test ends."""
    state = Server()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.address = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=lambda: listener.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    yield state
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the real hub or reads the user's copies: its address is one that nobody listens at."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        "time.sleep", lambda _: None
    )  # the hub's client tries five times, with longer and longer waits


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, taken for the hub."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    return server


def network(arch: str, *, seed: int = 3) -> nn.Module:
    """A timm network with random weights, statistics of BatchNorm included, in evaluation mode."""
    torch.manual_seed(seed)
    made: nn.Module = timm.create_model(arch, pretrained=False)
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return made.eval()


def state(arch: str = "test_resnet") -> dict[str, Tensor]:
    """The state dict of such a network."""
    return {name: value.contiguous() for name, value in network(arch).state_dict().items()}


def tensors(content: dict[str, Tensor]) -> bytes:
    """The bytes of a safetensors file."""
    return save(content)
