"""FedAvg, FedSGD, and FedAvg with a server optimizer: aliases over the same local loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fedray import optim
from fedray.algorithms.base import AlgorithmConfig, algorithms
from fedray.algorithms.server import AdaptiveServer, ServerRule, TorchServer
from fedray.config.sections import LocalSection

Variant = Literal["published", "torch"]


@algorithms.register("fedavg")
@dataclass(frozen=True)
class FedAvg(AlgorithmConfig):
    """Federated averaging (McMahan et al., arXiv:1602.05629, Algorithm 1).

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), FedAvg(server_lr=0.5).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=10)
    >>> server.step(x, Aggregate({"delta": torch.ones(1)}, weight=10.0, count=10))
    >>> x
    tensor([0.5000])

    Args:
        server_lr: the average update is multiplied by it; 1 is the paper's.
    """

    server_lr: float = 1.0

    def server(self) -> ServerRule:
        """Add the averaged update."""
        return ServerRule(self.server_lr)


@algorithms.register("fedsgd")
@dataclass(frozen=True)
class FedSGD(FedAvg):
    """Federated SGD (arXiv:1602.05629): one full-batch gradient step per client and round.

    ``local.epochs`` and ``local.batch_size`` are set to one step on all local data; the step size is that of
    ``local.optimizer``.  With full participation, sgd and weights by examples this is gradient descent on the pooled
    data.

    >>> args = FedSGD().local(LocalSection(epochs=5, batch_size=32))
    >>> args.epochs, args.batch_size
    (1, 'full')
    """

    def local(self, args: LocalSection) -> LocalSection:
        """Return one step on the whole local data."""
        return replace(args, epochs=1, batch_size="full", steps=None, by_client={})


@algorithms.register("fedavgm")
@dataclass(frozen=True)
class FedAvgM(AlgorithmConfig):
    """FedAvg with server momentum (Hsu et al., arXiv:1909.06335): ``v <- beta v + delta; x <- x + lr v``.

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), FedAvgM(momentum=0.5).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=10)
    >>> for _ in range(2):
    ...     server.step(x, Aggregate({"delta": torch.ones(1)}, weight=10.0, count=10))
    >>> x  # 1 + 1.5
    tensor([2.5000])

    Args:
        server_lr: server learning rate.
        momentum: beta in [0, 1); 0 is FedAvg.
        nesterov: use Nesterov momentum, as in the paper's experiments.
    """

    server_lr: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        ServerRule(self.server_lr)  # torch would call it lr
        super().__post_init__()

    def server(self) -> ServerRule:
        """Make SGD with momentum on the pseudo-gradient."""
        return TorchServer(optim.SGD(self.server_lr, self.momentum, 0.0, self.nesterov))


@dataclass(frozen=True)
class _Adaptive(AlgorithmConfig):
    """Base of the adaptive server optimizers: the options they share."""

    server_lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    initial: float | None = None

    def __post_init__(self) -> None:
        # The same ranges for every variant, by the names that the options have here.
        self._published("adam")
        super().__post_init__()

    def _published(self, kind: Literal["adagrad", "yogi", "adam"]) -> ServerRule:
        return AdaptiveServer(kind, self.server_lr, self.beta1, self.beta2, self.tau, self.initial)


@algorithms.register("fedadam")
@dataclass(frozen=True)
class FedAdam(_Adaptive):
    """Adam on the server (Reddi et al., arXiv:2003.00295, Algorithm 2).

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(2), FedAdam(server_lr=0.1).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(2, 1, bias=False)), clients=10)
    >>> server.step(x, Aggregate({"delta": torch.tensor([1.0, 100.0])}, weight=10.0, count=10))
    >>> x  # nearly the same step for a small and a large gradient
    tensor([0.0990, 0.1000])

    Args:
        server_lr: eta.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        tau: adaptivity, added to sqrt(v) (``eps`` of the torch variant).
        initial: first value of v; default tau^2.
        variant: ``published`` has no bias correction and v starts at ``initial``; ``torch`` is torch.optim.Adam, which
            corrects the bias of both moments and starts at 0, so that ``initial`` is to be left out.
    """

    variant: Variant = "published"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant == "torch" and self.initial is not None:
            raise ValueError(
                f"initial={self.initial}: torch.optim.Adam starts at 0; leave out one of initial and variant"
            )

    def server(self) -> ServerRule:
        """Make Adam on the pseudo-gradient, by ``variant``."""
        if self.variant == "torch":
            return TorchServer(optim.Adam(self.server_lr, [self.beta1, self.beta2], self.tau))
        return self._published("adam")


@algorithms.register("fedyogi")
@dataclass(frozen=True)
class FedYogi(_Adaptive):
    """Yogi on the server (Reddi et al., arXiv:2003.00295, Algorithm 2).  torch has no Yogi.

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(2), FedYogi(server_lr=0.1).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(2, 1, bias=False)), clients=10)
    >>> server.step(x, Aggregate({"delta": torch.tensor([1.0, 100.0])}, weight=10.0, count=10))
    >>> x
    tensor([0.0990, 0.1000])

    Args:
        server_lr: eta.
        beta1: decay of the first moment.
        beta2: controls how fast v moves.
        tau: adaptivity, added to sqrt(v).
        initial: first value of v; default tau^2.
    """

    def server(self) -> ServerRule:
        """Make Yogi on the pseudo-gradient, as published."""
        return self._published("yogi")


@algorithms.register("fedadagrad")
@dataclass(frozen=True)
class FedAdagrad(_Adaptive):
    """Adagrad on the server (Reddi et al., arXiv:2003.00295, Algorithm 2, with beta1 = 0 as in their experiments).

    >>> import torch
    >>> from fedray.parts import Aggregate, Layout
    >>> x, server = torch.zeros(1), FedAdagrad(server_lr=0.1).server()
    >>> server.start(x, Layout.of(torch.nn.Linear(1, 1, bias=False)), clients=10)
    >>> server.step(x, Aggregate({"delta": torch.ones(1)}, weight=10.0, count=10))
    >>> x
    tensor([0.0999])

    Args:
        server_lr: eta.
        beta1: decay of the first moment.
        beta2: without effect.
        tau: adaptivity, added to sqrt(v) (``eps`` of the torch variant).
        initial: first value of v; default tau^2.
        variant: ``published``, or ``torch``: torch.optim.Adagrad (beta1 = 0; v starts at ``initial``, default tau^2).
    """

    beta1: float = 0.0
    variant: Variant = "published"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant == "torch" and self.beta1 != 0.0:
            raise ValueError(f"beta1={self.beta1}: torch.optim.Adagrad has none; leave out one of beta1 and variant")

    def server(self) -> ServerRule:
        """Make Adagrad on the pseudo-gradient, by ``variant``."""
        if self.variant == "torch":
            initial = self.tau**2 if self.initial is None else self.initial
            return TorchServer(optim.Adagrad(self.server_lr, self.tau, initial))
        return self._published("adagrad")
