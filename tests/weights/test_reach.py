"""Without a network the answer comes in moments; a proxy counts as one; the user may forbid to ask."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

import headstart.weights as weights
from headstart._core.errors import BadWeights
from headstart.weights import reach
from tests.weights.conftest import Server, state, tensors

REPOSITORY = "timm/test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def _ask_anew() -> None:
    reach._connects.cache_clear()


@pytest.fixture
def no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client, which tries again and again, must not be called."""

    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("the hub's client was asked")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)


@pytest.mark.usefixtures("no_client")
def test_without_a_network_the_hubs_client_is_not_asked() -> None:
    with pytest.raises(BadWeights, match="cannot be reached"):
        weights.load("timm:test_resnet")


@pytest.mark.usefixtures("no_client")
def test_who_forbids_to_ask_is_told_so(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(REPOSITORY, "model.safetensors", tensors(state()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadWeights, match="HF_HUB_OFFLINE forbids to ask for it") as caught:
        weights.load("timm:test_resnet")
    assert "Unset HF_HUB_OFFLINE" in str(caught.value)
    assert not hub.asked


def test_what_was_fetched_is_there_offline(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(REPOSITORY, "model.safetensors", tensors(state()))
    first = weights.load("timm:test_resnet").info
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert weights.load("timm:test_resnet").info == first


def test_a_torchvision_address_that_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself would wait for half a minute."""
    monkeypatch.setattr("headstart.weights.sources.reachable", lambda _: False)
    with pytest.raises(BadWeights, match=r"pytorch\.org.* cannot be reached"):
        weights.load("torchvision:mobilenet_v3_small")


def test_the_way_through_a_proxy_counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not reach.reachable("http://nobody.invalid")
    monkeypatch.setenv("http_proxy", server.address)
    assert reach.reachable("http://nobody.invalid")
    monkeypatch.setenv("no_proxy", "nobody.invalid")
    assert not reach.reachable("http://nobody.invalid")


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        over.wait(20)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(reach, "_CONNECT", 0.2)
    begun = time.perf_counter()
    assert not reach.reachable("http://127.0.0.1:1")
    assert time.perf_counter() - begun < 5
    over.set()


def test_the_answer_is_remembered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def count(address: Any, *_: Any) -> None:
        asked.append(address)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", count)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    assert not any(reach.reachable("http://127.0.0.1:1") for _ in range(3))
    assert asked == [("127.0.0.1", 1)]
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 + reach._REMEMBERED)
    assert not reach.reachable("http://127.0.0.1:1")
    assert len(asked) == 2
