"""What the paper says of each figure, and what our numbers say: every verdict is computed from the figure's table.

A `Check` is one claim. It holds, holds not, or (a finding of ours, no claim of the paper's) is neither. A figure holds
where all of its claims do, does not where none does, and else holds partly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

HOLDS, PARTLY, NOT, FINDING = "holds", "holds partly", "does not hold", "finding"
TINY = 1e-9


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds (None for a finding), and the figures that decide."""

    claim: str
    holds: bool | None
    evidence: str

    @property
    def verdict(self) -> str:
        """In words."""
        return FINDING if self.holds is None else HOLDS if self.holds else NOT


def overall(checks: Sequence[Check]) -> str:
    """The verdict on a figure."""
    claims = [check.holds for check in checks if check.holds is not None]
    if not claims:
        return FINDING
    return HOLDS if all(claims) else PARTLY if any(claims) else NOT


def fig3(table: pd.DataFrame) -> list[Check]:
    """Linear: R2 of the best line is 0.98 or more for most GPUs. Large constant: h is L(1) / 4 or more for most."""
    points = [(str(device), rows) for device, rows in table[table["what"] == "measured"].groupby("device")]
    lines = table[table["what"] == "fit"].groupby("device")["step_s"]
    shares = {str(device): 1 - float(step.diff().iloc[-1] / step.iloc[0]) for device, step in lines}
    constant = Check(
        "The constant term is usually large.",
        float(np.median(list(shares.values()))) >= 0.25,
        f"h / L(1) runs from {min(shares.values()):.0%} ({min(shares, key=shares.__getitem__)}) to "
        f"{max(shares.values()):.0%} ({max(shares, key=shares.__getitem__)}), median "
        f"{np.median(list(shares.values())):.0%}",
    )
    if not points:
        return [constant]
    r2 = {device: float(np.corrcoef(rows["batch"], rows["step_s"])[0, 1] ** 2) for device, rows in points}
    least = min(r2, key=r2.__getitem__)
    linear = Check(
        "The latency of a step grows about linearly with the batch.",
        float(np.median(list(r2.values()))) >= 0.98,
        f"R2 of the best straight line: median of {len(r2)} GPUs {np.median(list(r2.values())):.4f}, least "
        f"{r2[least]:.3f} ({least})",
    )
    return [linear, constant]


def fig4a(table: pd.DataFrame) -> list[Check]:
    """Downward: lower at the smallest n than at the largest, by more than the intervals. Compared relative to n = N."""
    drops = {}
    for metric, rows in table.sort_values("local_steps").groupby("metric"):
        first, last = rows.iloc[0], rows.iloc[-1]
        drops[str(metric)] = (1 - first["value"] / last["value"], first["high"] < last["low"])
    clip, lpips = drops["CLIP"], drops["LPIPS-bar"]
    return [
        Check(
            "Accuracy (CLIP) and personalisation (LPIPS) both fall as more steps are offloaded.",
            bool(clip[1] and lpips[1]),
            f"from n = N to the smallest n CLIP falls by {clip[0]:.0%} and LPIPS-bar by {lpips[0]:.0%}",
        ),
        Check(
            "Personalisation falls more.",
            bool(lpips[0] > clip[0]),
            f"{lpips[0]:.0%} against {clip[0]:.0%}",
        ),
    ]


def fig4b(table: pd.DataFrame) -> list[Check]:
    """R2 at least 0.95."""
    left = table["pai"] - table["fitted"]
    r2 = 1 - float((left**2).sum() / ((table["pai"] - table["pai"].mean()) ** 2).sum())
    inside = float(((table["low"] <= table["fitted"]) & (table["fitted"] <= table["high"])).mean())
    return [
        Check(
            "The PAI follows a sigmoid of the split point.",
            r2 >= 0.95,
            f"R2 = {r2:.3f}; the curve leaves the means by {left.abs().max():.3f} at most, and lies in {inside:.0%} of "
            "their 95 % intervals",
        )
    ]


def fig7a(table: pd.DataFrame) -> list[Check]:
    """No step more anywhere on the grid where alpha or the batch is larger or the device faster."""
    slow_first = list(table["device"].unique())
    return [
        _monotone("Fewer steps are offloaded as alpha grows.", table, "alpha", ["device", "batch"]),
        _monotone("Fewer steps are offloaded as the batch grows.", table, "batch", ["device", "alpha"]),
        _monotone(
            "Fewer steps are offloaded by a faster device.",
            table.assign(rank=table["device"].map(slow_first.index)),
            "rank",
            ["batch", "alpha"],
        ),
    ]


def fig7b(table: pd.DataFrame) -> list[Check]:
    """Monotone in G; and the batch moves the split more where GPUs are few."""
    wide = table.pivot_table(index=["gpus", "alpha"], columns="batch", values="offloaded_steps")
    moved = (wide.iloc[:, 0] - wide.iloc[:, -1]).groupby("gpus").mean()
    few, many = moved.index[0], moved.index[-1]
    by_alpha = table.groupby(["gpus", "batch"])["offloaded_steps"].agg(np.ptp).groupby("gpus").mean()
    return [
        _monotone("More steps are offloaded as GPUs are added.", table, "gpus", ["batch", "alpha"], rising=True),
        Check(
            "With few GPUs the batch has the larger influence than with many.",
            bool(moved[few] > moved[many]),
            f"from the smallest to the largest batch the split moves by {moved[few]:.1f} steps on average with G = "
            f"{few}, by {moved[many]:.1f} with G = {many}",
        ),
        Check(
            "With many GPUs alpha dominates.",
            bool(by_alpha[many] > moved[many]),
            f"with G = {many} alpha moves the split by {by_alpha[many]:.0f} steps, the batch by {moved[many]:.1f}",
        ),
    ]


def fig8(table: pd.DataFrame) -> list[Check]:
    """Learns: 90 % captured or more at the end, while still exploring. Fluctuation: the curve's standard deviation."""
    last = table.groupby("scope", sort=False).tail(1).set_index("scope")["captured_share"]
    spread = {
        str(scope): float(rows.tail(len(rows) // 4)["episode_return"].std())
        for scope, rows in table.groupby("scope", sort=False)
    }
    shares = ", ".join(f"{scope} {share:.1%}" for scope, share in last.items())
    values = list(spread.values())
    return [
        Check("The agent learns in all three scopes.", bool((last >= 0.9).all()), f"captured at the end: {shares}"),
        Check(
            "The more general the scope, the more the curve fluctuates.",
            all(a > b for a, b in pairwise(values)),
            "standard deviation of the smoothed return over the last quarter: "
            + ", ".join(f"{scope} {value:.2f} s" for scope, value in spread.items()),
        ),
    ]


def fig9a(table: pd.DataFrame) -> list[Check]:
    """Best: no scope's objective above the specific one's. Trends: of the mean over G."""
    wide = table.pivot_table(index="gpus", columns="scope", values="qoe_per_user")
    shares = table.pivot_table(index="gpus", columns="scope", values="captured_share")
    rivals = [scope for scope in ("general", "GPU-constrained") if scope in wide]
    best = wide["specific"] >= wide[rivals].max(axis=1) - TINY
    spread = float((shares[[*rivals, "specific"]].max(axis=1) - shares[[*rivals, "specific"]].min(axis=1)).max())
    gain = wide.sub(wide["all local"], axis=0)["optimum"]
    of_scopes = "; ".join(f"{scope} {shares[scope].min():.1%} or more" for scope in (*rivals, "specific"))
    return [
        Check(
            "The model for a specific case performs best.",
            bool(best.all()),
            f"best or as good at {int(best.sum())} of {len(best)} numbers of GPUs; captured: {of_scopes}",
        ),
        Check(
            "The three differ slightly.",
            spread <= 0.05,
            f"they lie at most {spread:.1%} of the possible gain apart",
        ),
        Check(
            "Performance rises with the number of GPUs.",
            bool((np.diff(gain) >= -TINY).all()),
            f"the optimum's gain over all local goes from {gain.iloc[0]:.2f} to {gain.iloc[-1]:.2f} s per user",
        ),
    ]


def fig9b(table: pd.DataFrame) -> list[Check]:
    """PAI is given up."""
    mean = table[table["scope"] != "all local"].groupby("gpus")["mean_pai"].mean()
    local = float(table.loc[table["scope"] == "all local", "mean_pai"].mean())
    return [
        Check(
            "Offloading costs some PAI.",
            bool((mean < local).all()),
            f"mean PAI {mean.iloc[0]:.3f} to {mean.iloc[-1]:.3f} over G, all local {local:.3f}",
        )
    ]


def fig9c(table: pd.DataFrame) -> list[Check]:
    """Latency is saved, and worth more than the PAI given up."""
    best, local = (
        table[table["scope"] == scope].set_index("gpus")[["mean_latency_s", "qoe_per_user"]]
        for scope in ("optimum", "all local")
    )
    saved, gained = local["mean_latency_s"] - best["mean_latency_s"], best["qoe_per_user"] - local["qoe_per_user"]
    return [
        Check(
            "The saved latency outweighs the lost PAI.",
            bool((saved > 0).all() and (gained > 0).all()),
            f"{saved.min():.1f} to {saved.max():.1f} s saved per user, {gained.min():.1f} to {gained.max():.1f} s "
            "of QoE won",
        )
    ]


def fig10a(table: pd.DataFrame) -> list[Check]:
    """No trend: the slope over cases within 1.96 standard errors of 0. Decline: it is below that."""
    return _fig10(table, "users", "users", falls=True)


def fig10b(table: pd.DataFrame) -> list[Check]:
    """The same; the baseline's values must be equal to the last bit, the users being the same."""
    return _fig10(table, "gpus", "GPUs", falls=False)


def fig11(table: pd.DataFrame) -> list[Check]:
    """Means over all cases; stability is the standard deviation of the captured share."""
    mean = table.groupby("method")["captured_share"].mean()
    spread = table.groupby("method")["captured_share"].std().fillna(0.0)
    by_users = table.pivot_table(index="users", columns="method", values="qoe_per_user")
    of = {name: f"{mean[name]:.2%} captured" for name in mean.index}

    def against(rival: str) -> tuple[bool, str]:
        return bool((by_users["drl"] >= by_users[rival] - TINY).all()), f"{of['drl']} against {of[rival]}"

    poorest = mean[["drl", "ilp-fixed", "genetic-joint"]].idxmin()
    return [
        Check("The proposed method beats branch & bound with the split fixed.", *against("ilp-fixed")),
        Check("It beats the genetic algorithm (split a gene).", *against("genetic-joint")),
        Check("It beats the genetic algorithm (split inside).", *against("genetic")),
        Check(
            "The genetic algorithm's average is the poorest (split a gene).",
            poorest == "genetic-joint",
            f"{of['genetic-joint']}, branch & bound {of['ilp-fixed']}",
        ),
        Check(
            "The genetic algorithm is the least stable (split a gene).",
            bool(spread["genetic-joint"] >= spread[["drl", "ilp-fixed"]].max()),
            f"standard deviation of the captured share {spread['genetic-joint']:.3f}, branch & bound "
            f"{spread['ilp-fixed']:.3f}, proposed {spread['drl']:.4f}; with the split inside {spread['genetic']:.4f}",
        ),
        Check(
            "The proposed method is optimal.", bool(mean["drl"] >= 1 - TINY), f"{of['drl']}; exact 100 % by its proof"
        ),
    ]


def table1(table: pd.DataFrame) -> list[Check]:
    """Linear or better: the slope on log axes at most 1.2. Exponential: a slope that grows beyond 3."""
    slope = table.groupby("method")["slope"].first()
    last = table[table["users"] == table["users"].max()].set_index("method")
    times = {name: f"{last.loc[name, 'seconds']:.3g} s" for name in last.index}
    most = int(table["users"].max())
    return [
        Check(
            "DRL-convex is linear in users.",
            bool(slope["drl"] <= 1.2),
            f"time ~ I^{slope['drl']:.2f}, {times['drl']} at {most} users: its shortlist of 1.5 B_max bounds the steps",
        ),
        Check(
            "The genetic algorithm is linear in users, and slower.",
            bool(slope["genetic-joint"] <= 1.2 and last.loc["genetic-joint", "seconds"] > last.loc["drl", "seconds"]),
            f"time ~ I^{slope['genetic-joint']:.2f}, {times['genetic-joint']}",
        ),
        Check(
            "Branch & bound takes exponential time, impractical for many users.",
            bool(slope["ilp-fixed"] > 3),
            f"HiGHS takes time ~ I^{slope['ilp-fixed']:.2f}, {times['ilp-fixed']} at {most} users, proven optimal "
            "for its form",
        ),
        Check(
            "An exact solution is out of reach, the problem being NP-hard (Proposition 1).",
            bool(last.loc["exact", "seconds"] > last.loc["drl", "seconds"]),
            f"the exact optimum takes {times['exact']} at {most} users, the proposed method {times['drl']}",
        ),
    ]


def beyond_shrinking(table: pd.DataFrame) -> list[Check]:
    """How much the paper's simplification costs."""
    possible = table["fixed_batch"] - table["all_local"]
    some = possible > TINY
    under = float(((table["shrinking_batch"] - table["fixed_batch"])[some] / possible[some]).mean())
    gained = float(((table["planned_for_shrinking"] - table["shrinking_batch"])[some] / possible[some]).mean())
    return [
        Check(
            "The paper charges every step at the full batch.",
            None,
            f"a batch that shrinks as users finish makes the same plans worth {under:.2%} of the gain more; a local "
            f"search from them finds {gained:.2%} on top",
        )
    ]


def beyond_sensitivity(table: pd.DataFrame) -> list[Check]:
    """What matters most."""
    mean = table.groupby("parameter")["lost_share"].mean()
    tail = table.groupby("parameter")["lost_share"].quantile(0.95)
    kinds = table.groupby("parameter")["interval"].first()
    names = {"steepness": "a_F", "midpoint": "b_F", "slope_s": "k_e", "intercept_s": "h_e"}
    parts = [
        f"{names[str(p)]} {mean[p]:.2%} (95th percentile {tail[p]:.2%}; {kinds[p]})"
        for p in mean.sort_values().index[::-1]
    ]
    return [Check("A parameter at an end of its interval.", None, "lost share of the gain: " + ", ".join(parts))]


def beyond_latents(table: pd.DataFrame) -> list[Check]:
    """Gain in QoE and granted users."""
    big, small = max(table["latent_bits"]), min(table["latent_bits"])
    mean = table.groupby("latent_bits")[["qoe_per_user", "granted", "mean_latency_s"]].mean()
    won = mean.loc[small] - mean.loc[big]
    return [
        Check(
            "fp16 latents instead of pictures.",
            None,
            f"{small:,.0f} instead of {big:,.0f} bit: {won['qoe_per_user']:.2f} s of QoE more per user, "
            f"{mean.loc[small, 'granted']:.1f} instead of {mean.loc[big, 'granted']:.1f} users granted, "
            f"{-won['mean_latency_s']:.2f} s less average latency",
        )
    ]


def beyond_gpus(table: pd.DataFrame) -> list[Check]:
    """The fewest GPUs for round shares of the best latency."""
    mean = table.groupby("gpus")["mean_latency_s"].mean()
    best = float(mean.min())
    within = [(percent, int(mean.index[mean <= (1 + percent / 100) * best][0])) for percent in (20, 10, 5)]
    wanted = ", ".join(f"{gpus} to within {percent} %" for percent, gpus in within)
    return [
        Check(
            "GPUs needed for a wanted average latency.",
            None,
            f"{mean.iloc[0]:.1f} s with {mean.index[0]}, at best {best:.1f} s; of it, fewest GPUs: {wanted}",
        )
    ]


def _monotone(claim: str, table: pd.DataFrame, x: str, fixed: list[str], *, rising: bool = False) -> Check:
    ordered = table.sort_values(x).groupby(fixed)["offloaded_steps"]
    steps = ordered.diff().dropna()
    against = int(((steps < 0) if rising else (steps > 0)).sum())
    return Check(claim, against == 0, f"{against} of {len(steps)} neighbouring pairs go against it")


def _fig10(table: pd.DataFrame, x: str, what: str, *, falls: bool) -> list[Check]:
    mean = table.pivot_table(index=x, columns="method", values="qoe_per_user")
    slopes = {str(name): _slope(rows[x], rows["qoe_per_user"]) for name, rows in table.groupby("method")}
    sign = -1 if falls else 1
    movers = ["drl", "offload-all", "offload-all-fixed"]
    spread = mean.max() - mean.min()
    gap = mean["offload-all"] - mean["offload-all-fixed"]
    wide = table.pivot_table(index=[x, "case"], columns="method", values="qoe_per_user")
    rivals = wide[["offload-all", "offload-all-fixed", "all-local"]].max(axis=1)
    wins = wide["drl"] >= rivals - TINY
    best = (mean["drl"].to_numpy()[:, None] >= mean[["offload-all", "offload-all-fixed", "all-local"]].to_numpy()).all()
    shares = table[table["method"] == "drl"]["captured_share"]
    direction = f"declines as {what} are added" if falls else f"declines as {what} are taken away"
    return [
        Check(
            f"All local shows no trend over {what}.",
            abs(slopes["all-local"][0]) <= 1.96 * slopes["all-local"][1] + TINY,
            f"slope {_signed(slopes['all-local'])} s per step of the axis",
        ),
        *(
            Check(
                f"{_NAMES[name]} {direction}.",
                sign * slopes[name][0] > 1.96 * slopes[name][1],
                f"slope {_signed(slopes[name])}, means {mean[name].iloc[0]:.2f} to {mean[name].iloc[-1]:.2f} s",
            )
            for name in movers
        ),
        Check(
            "Baseline 1 keeps a stable gap above baseline 2.",
            bool((gap > 0).all() and gap.max() <= 2 * gap.min()),
            f"the gap runs from {gap.min():.2f} to {gap.max():.2f} s",
        ),
        Check(
            "The proposed method varies less than baselines 1 and 2.",
            bool(spread["drl"] < spread[["offload-all", "offload-all-fixed"]].min()),
            f"its means span {spread['drl']:.2f} s, theirs {spread['offload-all']:.2f} and "
            f"{spread['offload-all-fixed']:.2f} s",
        ),
        Check(
            "It outperforms all baselines.",
            bool(best),
            f"the best average at {'every point' if best else 'some points only'}, the best or as good in "
            f"{wins.mean():.1%} of cases; {shares.mean():.2%} of the possible gain captured",
        ),
    ]


_NAMES = {"drl": "The proposed method", "offload-all": "Baseline 1", "offload-all-fixed": "Baseline 2"}


def _slope(x: "pd.Series[float]", y: "pd.Series[float]") -> tuple[float, float]:
    """Slope of the least-squares line and its standard error."""
    centred = x.to_numpy(float) - x.mean()
    if len(x) < 3 or not centred.any():
        return 0.0, 0.0
    square = float(centred @ centred)
    slope = float(centred @ y.to_numpy(float)) / square
    left = y.to_numpy(float) - y.mean() - slope * centred
    return slope, float(np.sqrt(left @ left / (len(x) - 2) / square))


def _signed(slope: tuple[float, float]) -> str:
    return f"{slope[0]:+.3f} ± {1.96 * slope[1]:.3f}"
