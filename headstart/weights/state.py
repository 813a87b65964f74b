"""State dicts out of files, without ever running what is in them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from headstart._core.errors import BadWeights
from headstart._core.log import say

_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "teacher", "net")
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "body.")
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # a pickle of protocol 2 or later begins so; PyTorch wrote bare ones before 1.6
# What torch's restricted unpickler lets through where bytes are damaged: it was made for whole files.
_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
)

State = dict[str, Tensor]


@dataclass(frozen=True)
class KeyReport:
    """How a checkpoint fits a network: names that are missing, left over, or of another shape."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[str, ...]

    def __str__(self) -> str:
        """All names, in full."""
        parts = [
            f"{len(names)} {what}: {', '.join(names)}"
            for what, names in (
                ("missing", self.missing),
                ("of another shape", self.wrong_shape),
                ("left over", self.unexpected),
            )
            if names
        ]
        return "; ".join(parts) or "every key matches"


def read_state(path: Path) -> State:
    """The tensors of a `.safetensors` file or of a PyTorch file that holds tensors alone.

    Raises:
        BadWeights: for a damaged file, and for one that would have to be unpickled, which could run any code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_kind(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BadWeights:
        raise
    except pickle.UnpicklingError as error:
        raise BadWeights(
            f"{path} holds more than tensors; loading it could run code, so it is refused.",
            hint="Where it was made, save the state dict alone: "
            "safetensors.torch.save_file(model.state_dict(), 'x.safetensors')",
        ) from error
    except (SafetensorError, *_DAMAGE) as error:
        raise BadWeights(
            f"{path} cannot be read as a checkpoint: {str(error) or 'it ends too early'}.",
            hint="Is it whole? Download or save it again.",
        ) from error
    return _unwrap(content, path)


def _check_kind(path: Path) -> None:
    """Nothing, if the file begins as PyTorch's do.

    Raises:
        BadWeights: otherwise, so that a web page saved as `x.pth` is not taken for one that holds code.
    """
    with path.open("rb") as stream:
        first = stream.read(4)
    if first and not first.startswith((_PICKLE, _ZIP)):
        raise BadWeights(
            f"{path} is not a PyTorch checkpoint: it begins with {first!r}.",
            hint="Was a web page saved in its place? Download or save it again.",
        )


def _unwrap(content: object, path: Path) -> State:
    """The state dict inside the usual wrappers; a tensor beside it (`best_acc1`) does not make the wrapper one."""
    while isinstance(content, dict):
        wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), dict)), None)
        if wrapper is None:
            break
        say(f"{path.name}: the state dict is inside {wrapper!r}")
        content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise BadWeights(f"{path} holds no state dict.", hint="Save model.state_dict() with safetensors.")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def compare(network: nn.Module, state: State) -> KeyReport:
    """How the state fits the network."""
    own = network.state_dict()
    return KeyReport(
        missing=tuple(name for name in own if name not in state and not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in state if name not in own),
        wrong_shape=tuple(name for name in own if name in state and own[name].shape != state[name].shape),
    )


def without_prefix(network: nn.Module, state: State) -> State:
    """The state with a common prefix (`module.`, `backbone.` …) taken off, if that makes more keys fit."""
    own = set(network.state_dict())
    best, fits = state, len(own & set(state))
    for prefix in _PREFIXES:
        shorter = {
            name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
        }
        if len(own & set(shorter)) > fits:
            say(f"the checkpoint's keys begin with {prefix!r}, which was taken off")
            best, fits = shorter, len(own & set(shorter))
    return best


def by_order(network: nn.Module, state: State) -> State:
    """The state renamed to the network's keys, one after the other.

    For the bundled Lite networks only: their file and timm's network list the same tensors in the same order under other
    names (the file's were chosen by another implementation).

    Raises:
        BadWeights: where the count or a shape differs.
    """
    own = network.state_dict()
    if len(own) != len(state) or any(
        a.shape != b.shape for a, b in zip(own.values(), state.values(), strict=True)
    ):
        raise BadWeights(
            "The bundled checkpoint does not fit timm's network tensor by tensor.", hint="pip install -U timm"
        )
    return dict(zip(own, state.values(), strict=True))
