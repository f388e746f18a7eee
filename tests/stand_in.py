"""The meta device as the stand-in for a GPU: its tensors have no values, so nothing can wait for them unnoticed."""

import contextlib
import functools
from collections import Counter

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
DEVICE = "meta"
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}
DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
LOOKING = {"_linalg_eigh", "_linalg_svd", "linalg_lstsq", "linalg_eig", "histc"}  # on the host, without a tag for it
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray)


class Mixed(RuntimeError):
    """An operation was given tensors of the device and of the host, which it cannot take."""


class StandIn(TorchDispatchMode):
    """Counts by name what a GPU would have been waited for; ``to_host`` are the sizes of the copies to the host.

    What is read or copied gives ones. Tensors on different devices are ``mixed`` and refused as a GPU refuses them,
    but for single numbers of the host where an operation takes those along.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.mixed: Counter[str] = Counter()
        self.to_host: list[int] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if function in COPIES:
            return self._copied(function, args, kwargs)
        if any(tensor.is_meta for tensor in given):
            self._look_at(function, args, kwargs, [tensor for tensor in given if not tensor.is_meta])
        if function is aten._local_scalar_dense.default and given[0].is_meta:
            return 1
        return function(*args, **kwargs)

    def _look_at(self, function, args, kwargs, on_host) -> None:
        if _depends_on_values(function, args, kwargs):
            self.waits[str(function)] += 1
        if any(tensor.dim() for tensor in on_host) or (on_host and torch.Tag.pointwise not in function.tags):
            self.mixed[str(function)] += 1
            raise Mixed(f"{function} was given tensors on the device and on the host")
        if on_host and function is aten.where.self:  # which copies them over first
            self.waits[str(function)] += 1

    def _copied(self, function, args, kwargs):
        """Copy between device and host, or within one of them."""
        if function is aten.copy_.default:
            source, target = args[1], args[0].device
            waiting = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        else:
            source, target = args[0], torch.device(kwargs.get("device") or args[0].device)
            waiting = not kwargs.get("non_blocking", False)
        if source.is_meta and target.type != DEVICE:
            self.to_host.append(source.numel())
            if function is aten.copy_.default:
                return args[0].fill_(1)
            return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        if waiting and not source.is_meta and target.type == DEVICE:
            self.waits[f"{function} to the device"] += 1
        return function(*args, **kwargs)


def _depends_on_values(function, args, kwargs) -> bool:
    """Whether the host has to know values, or a size that depends on them, before it goes on."""
    if function in INDEXING:
        return any(index.dtype in (torch.bool, torch.uint8) for index in args[1] if index is not None)
    if function is aten.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return bool(DEPENDENT & set(function.tags)) or function._schema.name.removeprefix("aten::") in LOOKING


class OnHost(torch.Generator):
    """A random stream on the host, wherever it is asked for."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


class Autocast(torch.autocast):
    """Autocast as on the host."""

    def __init__(self, device_type, *args, **kwargs):
        super().__init__("cpu", *args, **kwargs)


@contextlib.contextmanager
def standing_in(monkeypatch):
    """Let the meta device be a GPU inside; what torch cannot be asked of it is answered as on the CPU."""
    mode = StandIn()
    enabled, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", OnHost)
        patch.setattr(torch, "autocast", Autocast)
        patch.setattr(torch, "is_autocast_enabled", lambda device_type="cpu": enabled("cpu"))
        patch.setattr(torch, "get_autocast_dtype", lambda device_type="cpu": dtype("cpu"))
        for make in MAKERS:
            patch.setattr(torch, make.__name__, functools.partial(_made_of_numbers, mode, make))
        with mode:
            yield mode


def _made_of_numbers(mode, make, numbers, *args, **kwargs):
    """Make a tensor of numbers; a GPU is waited for until it has them, and the meta device has none to wait for."""
    made = make(numbers, *args, **kwargs)
    if made.is_meta and not isinstance(numbers, Tensor):
        mode.waits[f"torch.{make.__name__} on the device"] += 1
    return made


def moved(tree):
    """Return things on the device."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(DEVICE, non_blocking=True), tree)
