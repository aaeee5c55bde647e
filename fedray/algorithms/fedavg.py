"""FedAvg, FedSGD, and FedAvg with a server optimizer by its name in the literature: one program."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedray.algorithms.base import Algorithm, algorithms
from fedray.config.sections import LocalSection
from fedray.server import Adagrad, Adam, Momentum, ServerOptimizer, Yogi
from fedray.server.adaptive import Variant, paper


@algorithms.register("fedavg")
@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Federated averaging (McMahan et al., arXiv:1602.05629, Algorithm 1).

    >>> FedAvg(server_lr=0.5).server()
    SGD(lr=0.5, lr_schedule='constant')

    Args:
        server_lr: another word for ``server.lr``: the average update is multiplied by it; 1 is the paper's.
    """

    server_lr: float | None = None


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
        return replace(args, epochs=1, batch_size="full", steps=None, by_client=args.by_clients("lr"))


@algorithms.register("fedavgm")
@dataclass(frozen=True)
class FedAvgM(Algorithm):
    """FedAvg with server momentum (Hsu et al., arXiv:1909.06335): see :class:`fedray.server.Momentum`.

    >>> FedAvgM(momentum=0.5).server()
    Momentum(lr=1.0, lr_schedule='constant', momentum=0.5, nesterov=False)

    Args:
        server_lr: server learning rate.
        momentum: beta in [0, 1); 0 is FedAvg.
        nesterov: use Nesterov momentum, as in the paper's experiments.
    """

    server_lr: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False

    def server(self) -> ServerOptimizer:
        """Return server momentum."""
        return Momentum(self.server_lr, self.momentum, self.nesterov)


@dataclass(frozen=True)
class _Adaptive(Algorithm):
    """Base of the adaptive server optimizers: the options they share."""

    server_lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    initial: float | None = None


@algorithms.register("fedadam")
@dataclass(frozen=True)
class FedAdam(_Adaptive):
    """FedAvg with Adam on the server (Reddi et al., arXiv:2003.00295): see :class:`fedray.server.Adam`.

    >>> FedAdam(server_lr=0.03).server().lr
    0.03

    Args:
        server_lr: eta.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        tau: adaptivity, added to sqrt(v) (``eps`` of the torch variant).
        initial: first value of v; default tau^2.
        variant: ``paper`` has no bias correction and v starts at ``initial``; ``torch`` is torch.optim.Adam, which
            corrects the bias of both moments and starts at 0, so that ``initial`` is to be left out.
    """

    variant: Variant = "paper"

    def __post_init__(self) -> None:
        object.__setattr__(self, "variant", paper(self.variant))
        super().__post_init__()

    def server(self) -> ServerOptimizer:
        """Return Adam."""
        return Adam(self.server_lr, self.beta1, self.beta2, self.tau, self.initial, self.variant)


@algorithms.register("fedyogi")
@dataclass(frozen=True)
class FedYogi(_Adaptive):
    """FedAvg with Yogi on the server (Reddi et al., arXiv:2003.00295): see :class:`fedray.server.Yogi`.

    >>> FedYogi(server_lr=0.03).server().lr
    0.03

    Args:
        server_lr: eta.
        beta1: decay of the first moment.
        beta2: controls how fast v moves.
        tau: adaptivity, added to sqrt(v).
        initial: first value of v; default tau^2.
    """

    def server(self) -> ServerOptimizer:
        """Return Yogi."""
        return Yogi(self.server_lr, self.beta1, self.beta2, self.tau, self.initial)


@algorithms.register("fedadagrad")
@dataclass(frozen=True)
class FedAdagrad(_Adaptive):
    """FedAvg with Adagrad on the server (Reddi et al., arXiv:2003.00295): see :class:`fedray.server.Adagrad`.

    >>> FedAdagrad(server_lr=0.03).server().lr
    0.03

    Args:
        server_lr: eta.
        beta1: decay of the first moment; 0 as in the paper's experiments.
        beta2: without effect.
        tau: adaptivity, added to sqrt(v) (``eps`` of the torch variant).
        initial: first value of v; default tau^2.
        variant: ``paper``, or ``torch``: torch.optim.Adagrad (beta1 = 0; v starts at ``initial``, default tau^2).
    """

    beta1: float = 0.0
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        object.__setattr__(self, "variant", paper(self.variant))
        super().__post_init__()

    def server(self) -> ServerOptimizer:
        """Return Adagrad."""
        return Adagrad(self.server_lr, self.beta1, self.beta2, self.tau, self.initial, self.variant)
