"""Imports that can wait: torch's compiler, which torchvision loads at its start and hardly anybody needs."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER, _UTILITIES = "torch._dynamo", "torch._dynamo.utils"


@contextmanager
def compiler_later() -> Iterator[None]:
    """Within the block, importing torchvision does not load torch's compiler; it is loaded when somebody calls it.

    The compiler brings sympy, Triton and torch.distributed: a second at every start of a program that compiles nothing.
    torchvision imports it for two functions, one of which marks another as not to be compiled. Within the block both have
    stand-ins; whoever asks for anything else of the compiler gets the compiler. torch must have been imported before.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_ins = (
        _StandIn(_COMPILER, disable=_not_compiled),
        _StandIn(_UTILITIES, is_compile_supported=_is_compile_supported),
    )
    for module in stand_ins:
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        _remove(stand_ins)


class _StandIn(ModuleType):
    """A module of which one function is known; whoever wants anything else makes way for the real one."""

    def __init__(self, name: str, **known: Callable[..., Any]) -> None:
        super().__init__(name)
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        # Python asks each module that something is imported from for `__path__`, which only a package has.
        if name.startswith("__") and (name != "__path__" or self.__name__ == _UTILITIES):
            raise AttributeError(name)
        _remove([module for module in map(sys.modules.get, (_COMPILER, _UTILITIES)) if module])
        return getattr(import_module(self.__name__), name)


def _remove(modules: Iterable[ModuleType]) -> None:
    """Take out stand-ins, so that the next import finds the real modules."""
    for module in modules:
        if isinstance(module, _StandIn) and sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]


def _is_compile_supported(device_type: Any) -> Any:
    return import_module(_UTILITIES).is_compile_supported(device_type)


def _not_compiled(function: Callable[..., Any], *options: Any, **named: Any) -> Callable[..., Any]:
    """The function, marked as not to be compiled from its first call on, as torch does it for its own functions."""
    real: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*arguments: Any, **more: Any) -> Any:
        if not real:
            real.append(import_module(_COMPILER).disable(function, *options, **named))
        return real[0](*arguments, **more)

    return call
