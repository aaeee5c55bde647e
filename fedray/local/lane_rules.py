"""The table of modules that lanes know: each takes the rows of C clients at once, with parameters of each client."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fedray.local.lane_attention import attention, products

Own = Mapping[str, Tensor]
"""The trained parameters of a module, ``[C, *shape]``, by the name that the module has for them."""

Rows = Callable[..., Any]
"""(module, own parameters, C, inputs of ``C * n`` rows, those of client 0 first, ...) to outputs of as many rows."""


@dataclass(frozen=True)
class Rule:
    """The way in which a kind of module takes the rows of all clients.

    Args:
        rows: does it.
        leaves: the parameters that may be each client's own.
    """

    rows: Rows
    leaves: tuple[str, ...] = ("weight", "bias")


def linear(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
    """Return ``x W^T + b``."""
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None:
        return _moved(F.linear(x, _kept(m, "weight")), bias)
    return products(x, weight, bias if bias is not None else _shared(m, "bias", clients))


def conv1d_of_gpt2(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
    """Return ``x W + b``, as ``transformers.pytorch_utils.Conv1D`` does."""
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None:
        return _moved(x @ _kept(m, "weight"), bias)
    return products(x, weight.transpose(1, 2), bias if bias is not None else _shared(m, "bias", clients))


def embedding(m: Any, own: Own, clients: int, ids: Tensor) -> Tensor:
    """Return the rows of each client's table; the one of ``padding_idx`` has no gradient."""
    weight, padding = own["weight"], m.padding_idx
    first = torch.arange(clients, device=ids.device).mul_(weight.shape[1]).view(-1, 1)
    # Below 0 or beyond the table they would be another client's rows.
    torch._assert_async(((ids >= 0) & (ids < weight.shape[1])).all(), "index out of range in an Embedding")
    out = F.embedding((ids.reshape(clients, -1) + first).view(ids.shape), weight.flatten(0, 1))
    return out if padding is None else torch.where((ids == padding).unsqueeze(-1), out.detach(), out)


def layer_norm(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
    """Return the rows, normalised without weights, times each client's weight plus its bias."""
    normed = F.layer_norm(x, m.normalized_shape, None, None, m.eps)
    return _scaled(m, own, clients, normed)


def rms_norm(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
    """Return the rows, divided by the root of their mean square, times each client's weight."""
    return _scaled(m, own, clients, F.rms_norm(x, m.normalized_shape, None, m.eps))


def group_norm(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
    """Return the rows, normalised by groups of channels without weights, times each client's weight plus its bias."""
    normed = F.group_norm(x, m.num_groups, None, None, m.eps)
    return _scaled(m, own, clients, normed, (x.shape[1], *[1] * (x.dim() - 2)))


def _scaled(m: Any, own: Own, clients: int, normed: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return rows times a weight plus a bias, those of each client, or those of all."""
    out = normed.view(clients, -1, *normed.shape[1:])
    weight, bias = (_beside(m, own, name, out.dim(), shape) for name in ("weight", "bias"))
    if weight is not None:
        out = out * weight if bias is None else torch.addcmul(bias, out, weight)
    elif bias is not None:
        out = out + bias
    return out.view(normed.shape).to(normed.dtype)


def _beside(m: Any, own: Own, name: str, dims: int, shape: tuple[int, ...] | None) -> Tensor | None:
    """Return a parameter as it is multiplied with rows ``[C, n, ...]``."""
    if name in own:
        each = own[name] if shape is None else own[name].view(-1, *shape)
        return each.view(len(each), *[1] * (dims - each.dim()), *each.shape[1:])
    shared = getattr(m, name, None)
    return shared if shared is None or shape is None else shared.view(shape)


def convolution(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
    """Return the convolutions by each client's kernels: one with C times as many groups."""
    inputs, padding = x, m.padding
    if m.padding_mode != "zeros":
        inputs, padding = F.pad(x, m._reversed_padding_repeated_twice, mode=m.padding_mode), 0
    function: Any = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None:
        out: Tensor = function(inputs, _kept(m, "weight"), None, m.stride, padding, m.dilation, m.groups)
        each = out.view(clients, -1, *out.shape[1:])
        assert bias is not None
        return (each + bias.view(clients, 1, -1, *[1] * (out.dim() - 2))).view(out.shape)
    if bias is None:
        bias = _shared(m, "bias", clients)
    beside = inputs.view(clients, -1, *inputs.shape[1:]).transpose(0, 1).flatten(1, 2)
    flat, groups = None if bias is None else bias.reshape(-1), clients * m.groups
    out = function(beside, weight.flatten(0, 1), flat, m.stride, padding, m.dilation, groups)
    apart: Tensor = out.view(len(out), clients, -1, *out.shape[2:]).transpose(0, 1)
    return apart.flatten(0, 1)


def _kept(m: Any, name: str) -> Tensor:
    found: Tensor = getattr(m, name)
    return found


def _shared(m: Any, name: str, clients: int) -> Tensor | None:
    """Return a parameter that all clients have alike, ``[C, *shape]``."""
    found: Tensor | None = getattr(m, name, None)
    return None if found is None else found.expand(clients, *found.shape)


def _moved(out: Tensor, bias: Tensor | None) -> Tensor:
    assert bias is not None
    return (out.reshape(len(bias), -1, out.shape[-1]) + bias.unsqueeze(1)).view(out.shape)


def _rms(name: str, one: float) -> Rows:
    """Return the rule of a root mean square norm that another package wrote, computed in float32."""

    def rows(m: Any, own: Own, clients: int, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), x.shape[-1:], None, getattr(m, name))
        weight = own["weight"].view(clients, *[1] * (x.dim() - 1), x.shape[-1])
        each = (normed if one else normed.to(x.dtype)).view(clients, -1, *x.shape[1:])
        out = each * (one + weight) if one else weight * each
        return out.view(x.shape).to(x.dtype if one else out.dtype)

    return rows


RULES: dict[Callable[..., Any], Rule] = {
    nn.Linear.forward: Rule(linear),
    nn.Embedding.forward: Rule(embedding, ("weight",)),
    nn.LayerNorm.forward: Rule(layer_norm),
    nn.RMSNorm.forward: Rule(rms_norm, ("weight",)),
    nn.GroupNorm.forward: Rule(group_norm),
    nn.Conv1d.forward: Rule(convolution),
    nn.Conv2d.forward: Rule(convolution),
    nn.Conv3d.forward: Rule(convolution),
    nn.MultiheadAttention.forward: Rule(attention, ("in_proj_weight", "in_proj_bias")),
}
"""The rules by the forward of a class: one that inherits it does the same."""


def rule_of(m: nn.Module) -> Rule | str:
    """Return the rule of a module, or why there is none.

    Known are the classes of :data:`RULES`, and by their names the norms and the linear layer that ``transformers``
    has of its own: these are compared with what the module itself makes of some numbers.

    >>> rule_of(nn.Bilinear(2, 2, 2))
    'Bilinear is not known in lanes'
    """
    kind = type(m)
    if "forward" in vars(m):
        return f"the forward of {kind.__name__} is replaced"
    if (rule := RULES.get(kind.forward)) is not None:
        return _misfit(m) or rule
    shapes = {name: tuple(parameter.shape) for name, parameter in m.named_parameters()}
    if re.search(r"RMSNorm|T5LayerNorm", kind.__name__) and [len(shape) for shape in shapes.values()] == [1]:
        name = "variance_epsilon" if hasattr(m, "variance_epsilon") else "eps"
        candidates = [Rule(_rms(name, one), ("weight",)) for one in (0.0, 1.0)] if hasattr(m, name) else []
    elif kind.__name__ == "Conv1D" and list(shapes) == ["weight", "bias"] and len(shapes["weight"]) == 2:
        candidates = [Rule(conv1d_of_gpt2)]
    else:
        candidates = []
    return next((rule for rule in candidates if _does(m, rule, shapes)), f"{kind.__name__} is not known in lanes")


def _misfit(m: nn.Module) -> str | None:
    """Return what a module of a known class is told to do that lanes do not."""
    if isinstance(m, nn.Embedding) and (m.max_norm is not None or m.scale_grad_by_freq):
        return "an Embedding with max_norm or scale_grad_by_freq joins rows"
    if isinstance(m, nn.MultiheadAttention):
        if not m._qkv_same_embed_dim or m.bias_k is not None or m.add_zero_attn or not m.batch_first:
            return "a MultiheadAttention with batch_first=False, kdim, vdim, add_bias_kv or add_zero_attn"
        return next(
            (f"the forward of {type(one).__name__} is replaced" for one in m.children() if "forward" in vars(one)), None
        )
    return None


def _does(m: nn.Module, rule: Rule, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell if a rule makes of some numbers what a module does."""
    some = {name: torch.linspace(0.5, 1.5, _numel(shape)).sin().view(shape) for name, shape in shapes.items()}
    x = torch.linspace(-2.0, 3.0, 3 * shapes["weight"][0]).cos().view(3, -1)
    try:
        with torch.no_grad():
            wanted = functional_call(m, some, (x,))
            found = rule.rows(m, {name: one.unsqueeze(0) for name, one in some.items()}, 1, x)
    except Exception:
        return False
    return isinstance(wanted, Tensor) and wanted.shape == found.shape and torch.allclose(wanted, found, atol=1e-5)


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
