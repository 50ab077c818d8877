"""A device that is emulated on the CPU, so that training on a GPU is tested where there is none.

Its tensors say that they are on torch's device 'meta' and hold one of the CPU, on which operations run with real
numbers. As on a GPU, an operation on tensors of both devices fails, as do `numpy()` and random numbers drawn on the
device by a generator of the CPU; a number of the CPU, without a dimension, may be anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from edgerec.models import torch_tools

DEVICE = torch.device("meta")
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""Operations between devices."""


class _OnDevice(torch.Tensor):
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _OnDevice:
        layout = {"strides": inner.stride()} if inner.layout == torch.strided else {}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=DEVICE, **layout)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Emulation(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the tensors of the CPU; return its results on the device that they are on."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    own = [tensor for tensor in tensors if isinstance(tensor, _OnDevice)]
    if function not in _COPIES and own and any(tensor.ndim for tensor in tensors if not isinstance(tensor, _OnDevice)):
        raise RuntimeError(f"{function} takes tensors of two devices")
    asked = kwargs.get("device")
    on_device = bool(own) if asked is None else torch.device(asked) == DEVICE
    if on_device and kwargs.get("generator") is not None:
        raise RuntimeError(f"{function} draws on the device by a generator of the CPU")
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    same = {id(_inner(tensor)): tensor for tensor in tensors}  # operations in place return their argument

    def result(found: Any) -> Any:
        if not isinstance(found, torch.Tensor) or id(found) in same:
            return same.get(id(found), found)
        return _OnDevice(found) if on_device else found

    return tree_map(result, function(*tree_map(_inner, args), **tree_map(_inner, kwargs)))


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _OnDevice) else value


class _Torch:
    """torch with one GPU, the emulated device."""

    cuda = SimpleNamespace(device_count=lambda: 1)

    @staticmethod
    def device(name: str) -> torch.device:
        return torch.device(name) if name == "cpu" else DEVICE

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def emulated(monkeypatch: Any) -> Iterator[None]:
    """Run the block with the emulated device as 'cuda'."""
    with monkeypatch.context() as patch, _Emulation():
        patch.setattr(torch_tools, "require", lambda *_: _Torch())
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])
        yield
