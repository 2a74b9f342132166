"""Verdicts on tables made by hand: each follows from the numbers."""

import numpy as np
import pandas as pd
import pytest

from edgesplit.reports import verdicts
from edgesplit.reports.verdicts import FINDING, HOLDS, NOT, PARTLY, Check, overall


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([True, True], HOLDS),
        ([True, False, None], PARTLY),
        ([False, None], NOT),
        ([None], FINDING),
    ],
)
def test_a_figure_holds_where_all_of_its_claims_do(holds, expected):
    assert overall([Check("", one, "") for one in holds]) == expected


def methods_table(**of_method):
    """QoE per user of each method at 5, 10, 15 users, in 4 cases that differ a little."""
    rows = []
    for method, values in of_method.items():
        for users, value in zip((5, 10, 15), values, strict=True):
            rows += [
                {
                    "users": users,
                    "case": case,
                    "method": method,
                    "qoe_per_user": value + 0.01 * case,
                    "captured_share": 1.0,
                }
                for case in range(4)
            ]
    return pd.DataFrame(rows)


def states(table):
    return {check.claim: check.holds for check in verdicts.fig10a(table)}


def test_fig10_follows_the_means():
    as_paper = {
        "drl": [-1, -2, -3],
        "offload-all": [-2, -4, -6],
        "offload-all-fixed": [-3, -5.5, -8],
        "all-local": [-9] * 3,
    }
    assert all(states(methods_table(**as_paper)).values())
    falling = states(methods_table(**as_paper | {"all-local": [-7, -8, -9]}))
    assert not falling["All local shows no trend over users."]
    beaten = states(methods_table(**as_paper | {"drl": [-1, -5, -3]}))
    assert not beaten["It outperforms all baselines."]
    rising = states(methods_table(**as_paper | {"offload-all": [-6, -4, -2]}))
    assert not rising["Baseline 1 declines as users are added."]
    wide = states(methods_table(**as_paper | {"offload-all-fixed": [-2.1, -9, -15]}))
    assert not wide["Baseline 1 keeps a stable gap above baseline 2."]


def peers(**shares):
    rows = [
        {"users": 5, "case": case, "method": method, "captured_share": share, "qoe_per_user": share}
        for method, values in shares.items()
        for case, share in enumerate(values)
    ]
    return {check.claim: check.holds for check in verdicts.fig11(pd.DataFrame(rows))}


def test_fig11_says_so_where_the_genetic_algorithm_is_as_good():
    found = peers(
        drl=[0.99, 1.0], exact=[1, 1], **{"ilp-fixed": [0.8, 0.8], "genetic": [1, 1], "genetic-joint": [0.5, 0.9]}
    )
    assert not found["It beats the genetic algorithm (split inside)."]
    assert not found["The proposed method is optimal."]
    assert found["It beats the genetic algorithm (split a gene)."]
    assert found["The genetic algorithm's average is the poorest (split a gene)."]
    assert found["The genetic algorithm is the least stable (split a gene)."]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_slopes_of_table_1_are_the_powers(power):
    from edgesplit.reports.timing import log_slope

    users = pd.Series([20, 50, 100, 1000])
    assert log_slope(users, 3e-4 * users**power) == pytest.approx(power)


def test_fig3_fits_its_own_line():
    batch = np.array([1, 2, 4, 8])
    rows = [{"device": "x", "what": "measured", "batch": b, "step_s": 0.01 * b + 0.02} for b in batch]
    rows += [{"device": "x", "what": "fit", "batch": b, "step_s": 0.01 * b + 0.02} for b in range(1, 9)]
    linear, constant = verdicts.fig3(pd.DataFrame(rows))
    assert linear.holds
    assert constant.holds
    assert "67%" in constant.evidence


def test_a_moving_average_weighs_rows_by_their_episodes():
    from edgesplit.reports.tables import WINDOW, moving_average

    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 400, 30)
    values = rng.normal(size=30)
    every = np.repeat(values, lengths)  # the value of every episode
    ends = np.cumsum(lengths)
    expected = [every[max(0, end - WINDOW) : end].mean() for end in ends]
    np.testing.assert_allclose(moving_average(pd.Series(ends), pd.Series(values)), expected, atol=1e-12)
