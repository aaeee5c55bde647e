"""The figures of the accountants against those of Opacus, which shares no code with the package that they are from."""

from __future__ import annotations

from itertools import product

import pytest

from fedray.privacy.accounting import epsilon

# Noise and rate, with as many rounds as spend something.
RUNS = [(0.6, 0.01, 200), (0.8, 0.02, 300), (1.0, 0.001, 10_000), (1.0, 0.01, 1000), (1.0, 0.2, 60), (1.3, 0.1, 100)]
RUNS += [(2.0, 0.05, 500), (2.0, 0.3, 50), (4.0, 0.5, 100)]
SETTINGS = list(product(RUNS, (1e-5, 1e-7)))
ERROR = 0.01
ORDERS = [*range(2, 64), 80, 96, 128, 192, 256, 512, 1024]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what Opacus imports, and of orders that it leaves out
@pytest.mark.parametrize(("run", "delta"), SETTINGS)
def test_below_rate_1_epsilon_is_that_of_opacus(run: tuple[float, float, int], delta: float) -> None:
    """PRV (Gopi et al., arXiv:2106.02848) has a lower and an upper bound; of the same orders Renyi's figure is one."""
    from opacus.accountants import PRVAccountant, RDPAccountant

    prv, rdp = PRVAccountant(), RDPAccountant()
    prv.history = rdp.history = [run]
    upper = prv.get_epsilon(delta, eps_error=ERROR, delta_error=delta / 1000)
    tight, loose = epsilon(*run, delta), epsilon(*run, delta, "rdp")
    # From the lower bound to the upper one it is twice the error, and the grid of PLD rounds up by 1e-4 a loss.
    assert upper - 2 * ERROR - 1e-3 <= tight <= upper + 1e-3
    assert loose == pytest.approx(rdp.get_epsilon(delta, alphas=ORDERS), rel=1e-6)
    assert tight <= loose
