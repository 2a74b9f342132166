"""What the paper says of each figure, and what our numbers say: every verdict is computed from the figure's table.

A `Check` is one claim. It holds, holds partly, or holds not; a finding of ours, no claim of the paper's, is neither. A
tie is not superiority: "beats" and "best" need more than `TINY`. A figure holds where all of its claims do, does not
where none does, and else holds partly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from ..optimizer.methods.ilp import PROVEN

HOLDS, PARTLY, NOT, FINDING = "holds", "holds partly", "does not hold", "finding"
TINY = 1e-9


@dataclass(frozen=True)
class Check:
    """One claim, its verdict, and the figures that decide."""

    claim: str
    verdict: str
    evidence: str


def overall(checks: Sequence[Check]) -> str:
    """The verdict on a figure."""
    claims = [check.verdict for check in checks if check.verdict != FINDING]
    return together(claims) if claims else FINDING


def together(verdicts: Iterable[str]) -> str:
    """The verdict on several that are one and the same, or partly."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else PARTLY


def judged(parts: Iterable[bool]) -> str:
    """A claim that has parts, such as the points of a figure: holds where all do, not where none does."""
    return together(HOLDS if part else NOT for part in parts)


# -- Figs. 3, 4, 7 and 8 ------------------------------------------------------------------------------------


def fig3(table: pd.DataFrame) -> list[Check]:
    """Linear: R2 of the best line is 0.98 or more for most. Large constant: h is L(1) / 4 or more for most.

    All devices count, drawn or not, but for those whose profile is estimated.
    """
    known = table[table["source"] != "estimated"]
    points = [(str(name), rows) for name, rows in known[known["what"] == "measured"].groupby("device")]
    r2 = {name: _r2_of_line(rows["batch"], rows["step_s"]) for name, rows in points if len(rows) > 2}
    lines = known[known["what"] == "fit"].groupby("device")["step_s"]
    shares = {str(name): 1 - float(step.diff().iloc[-1] / step.iloc[0]) for name, step in lines}
    return [
        _most("The latency of a step grows about linearly with the batch.", r2, 0.98, ".3f", "R2 of the best line"),
        _most("The constant term is usually large.", shares, 0.25, ".0%", "h / L(1)"),
    ]


def _most(claim: str, values: dict[str, float], least: float, form: str, what: str) -> Check:
    """Whether most devices have a value of `least` or more."""
    if not values:
        return Check(claim, FINDING, f"{what}: no device with measurements enough")
    order, median = sorted(values, key=values.__getitem__), float(np.median(list(values.values())))
    ends = f"from {values[order[0]]:{form}} ({order[0]}) to {values[order[-1]]:{form}} ({order[-1]})"
    evidence = f"{what}: median of {len(values)} devices {median:{form}} (needed {least:{form}}), {ends}"
    return Check(claim, judged([median >= least]), evidence)


def fig4a(table: pd.DataFrame) -> list[Check]:
    """Downward: lower at the smallest n than at the largest, by more than the intervals. Compared relative to n = N."""
    drops = {}
    for metric, rows in table.sort_values("local_steps").groupby("metric"):
        first, last = rows.iloc[0], rows.iloc[-1]
        drops[str(metric)] = (1 - first["value"] / last["value"], bool(first["high"] < last["low"]))
    clip, lpips = drops["CLIP"], drops["LPIPS-bar"]
    return [
        Check(
            "Accuracy (CLIP) and personalisation (LPIPS) both fall as more steps are offloaded.",
            judged([clip[1], lpips[1]]),
            f"from n = N to the smallest n CLIP falls by {clip[0]:.0%} and LPIPS-bar by {lpips[0]:.0%}",
        ),
        Check(
            "Personalisation falls more.", judged([lpips[0] > clip[0] + TINY]), f"{lpips[0]:.0%} against {clip[0]:.0%}"
        ),
    ]


def fig4b(table: pd.DataFrame) -> list[Check]:
    """A sigmoid: R2 at least 0.95, above the best straight line's, and inside most of the 95 % intervals."""
    left = table["pai"] - table["fitted"]
    r2 = 1 - float((left**2).sum() / ((table["pai"] - table["pai"].mean()) ** 2).sum())
    line = _r2_of_line(table["local_steps"], table["pai"])
    inside = float(((table["low"] <= table["fitted"]) & (table["fitted"] <= table["high"])).mean())
    return [
        Check(
            "The PAI follows a sigmoid of the split point.",
            judged([r2 >= 0.95, r2 > line, inside > 0.5]),
            f"R2 = {r2:.3f}, of the best straight line {line:.3f}; the curve leaves the means by "
            f"{left.abs().max():.3f} at most, and lies in {inside:.0%} of their 95 % intervals",
        )
    ]


def fig7a(table: pd.DataFrame) -> list[Check]:
    """No step more anywhere on the grid where alpha or the batch is larger or the device faster."""
    slow_first = list(table["device"].unique())
    ranked = table.assign(rank=table["device"].map(slow_first.index))
    return [
        _monotone("Fewer steps are offloaded as alpha grows.", table, "alpha", ["device", "batch"]),
        _monotone("Fewer steps are offloaded as the batch grows.", table, "batch", ["device", "alpha"]),
        _monotone("Fewer steps are offloaded by a faster device.", ranked, "rank", ["batch", "alpha"]),
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
            judged([bool(moved[few] > moved[many] + TINY)]),
            f"from the smallest to the largest batch the split moves by {moved[few]:.1f} steps on average with G = "
            f"{few}, by {moved[many]:.1f} with G = {many}",
        ),
        Check(
            "With many GPUs alpha dominates.",
            judged([bool(by_alpha[many] > moved[many] + TINY)]),
            f"with G = {many} alpha moves the split by {by_alpha[many]:.0f} steps, the batch by {moved[many]:.1f}",
        ),
    ]


def _monotone(claim: str, table: pd.DataFrame, x: str, fixed: list[str], *, rising: bool = False) -> Check:
    steps = table.sort_values(x).groupby(fixed)["offloaded_steps"].diff().dropna()
    against = int(((steps < 0) if rising else (steps > 0)).sum())
    moved = bool((steps != 0).any())  # a flat surface bears nothing out
    return Check(claim, judged([against == 0 and moved]), f"{against} of {len(steps)} neighbouring pairs go against it")


def fig8(table: pd.DataFrame) -> list[Check]:
    """Learns: 90 % captured or more at the end, while still exploring.

    Fluctuation: the standard deviation of the last quarter of the curve about its own straight line.
    """
    last = table.groupby("scope", sort=False).tail(1).set_index("scope")["captured_share"]
    spread = {str(scope): _fluctuation(rows.tail(len(rows) // 4)) for scope, rows in table.groupby("scope", sort=False)}
    shares = ", ".join(f"{scope} {share:.1%}" for scope, share in last.items())
    words = ", ".join(f"{scope} {value:.2f} s" for scope, value in spread.items())
    return [
        Check("The agent learns in all three scopes.", judged(last >= 0.9), f"captured at the end: {shares}"),
        Check(
            "The more general the scope, the more the curve fluctuates.",
            judged(a > b + TINY for a, b in pairwise(spread.values())),
            f"standard deviation of the smoothed return about its trend, last quarter: {words}",
        ),
    ]


def _fluctuation(rows: pd.DataFrame) -> float:
    """Standard deviation about the straight line through a curve."""
    x, y = rows["episode"].to_numpy(float), rows["episode_return"].to_numpy(float)
    return float(np.std(y - np.polyval(np.polyfit(x - x.mean(), y, 1), x - x.mean()), ddof=2))


def _r2_of_line(x: "pd.Series[float]", y: "pd.Series[float]") -> float:
    """R2 of the best straight line."""
    return float(np.corrcoef(x, y)[0, 1] ** 2)


# -- Fig. 9 -------------------------------------------------------------------------------------------------


def fig9a(table: pd.DataFrame) -> list[Check]:
    """Each general policy is judged beside the other two scopes. Best: above both others at every G."""
    wide = table.pivot_table(index="gpus", columns="scope", values="qoe_per_user")
    shares = table.pivot_table(index="gpus", columns="scope", values="captured_share")
    generals = [scope for scope in wide if str(scope).startswith("general")]
    checks = [check for general in generals for check in _three_scopes(wide, shares, str(general))]
    gains = wide.drop(columns=["all local", "optimum"]).sub(wide["all local"], axis=0)
    rises = [bool((np.diff(gains[scope]) > TINY).all()) for scope in gains]
    words = "; ".join(f"{scope} {gains[scope].iloc[0]:.2f} to {gains[scope].iloc[-1]:.2f}" for scope in gains)
    evidence = f"gain over all local, s per user, G = {gains.index[0]} to {gains.index[-1]}: {words}"
    return [*checks, Check("Performance rises with the number of GPUs.", judged(rises), evidence)]


def _three_scopes(wide: pd.DataFrame, shares: pd.DataFrame, general: str) -> list[Check]:
    three = [general, "GPU-constrained", "specific"]
    ahead = wide["specific"] - wide[three[:2]].max(axis=1)
    better, worse = int((ahead > TINY).sum()), int((ahead < -TINY).sum())
    apart = float((shares[three].max(axis=1) - shares[three].min(axis=1)).max())
    least = ", ".join(f"{scope} {shares[scope].min():.1%}" for scope in three)
    return [
        Check(
            f"The model for a specific case performs best; {general}.",
            judged(ahead > TINY),
            f"of {len(ahead)} numbers of GPUs better than both others at {better}, as good as the best at "
            f"{len(ahead) - better - worse}, worse at {worse}; captured at least: {least}",
        ),
        Check(
            f"The three differ slightly; {general}.",
            judged([apart <= 0.05]),
            f"they lie at most {apart:.1%} of the possible gain apart",
        ),
    ]


def fig9b(table: pd.DataFrame) -> list[Check]:
    """PAI is given up, by each policy at each G."""
    wide = table.pivot_table(index="gpus", columns="scope", values="mean_pai")
    own, local = wide.drop(columns=["all local", "optimum"]), wide["all local"]
    words = "; ".join(f"{scope} {own[scope].iloc[0]:.3f} to {own[scope].iloc[-1]:.3f}" for scope in own)
    lower = own.lt(local - TINY, axis=0).to_numpy().ravel()
    evidence = f"lower at {lower.sum()} of {lower.size} points; all local {local.iloc[0]:.3f}, over G: {words}"
    return [Check("Offloading costs some PAI.", judged(lower), evidence)]


def fig9c(table: pd.DataFrame) -> list[Check]:
    """Latency is saved, and worth more than the PAI given up: by each policy at each G."""
    saved, won = (
        -sign * wide.drop(columns=["all local", "optimum"]).sub(wide["all local"], axis=0)
        for sign, wide in (
            (1, table.pivot_table(index="gpus", columns="scope", values="mean_latency_s")),
            (-1, table.pivot_table(index="gpus", columns="scope", values="qoe_per_user")),
        )
    )
    words = "; ".join(
        f"{scope} {saved[scope].min():.1f} to {saved[scope].max():.1f} s saved, {won[scope].min():.1f} to "
        f"{won[scope].max():.1f} s of QoE won"
        for scope in saved
    )
    both = ((saved > TINY) & (won > TINY)).to_numpy().ravel()
    return [Check("The saved latency outweighs the lost PAI.", judged(both), f"per user, over G: {words}")]


# -- Figs. 10 and 11, Table 1 -------------------------------------------------------------------------------

_NAMES = {"drl": "The proposed method", "offload-all": "Baseline 1"}
READINGS = {"offload-all-fixed": "split at N-hat", "offload-all-nhat": "N-hat steps offloaded"}
"""Baseline 2; a claim that only one of them bears out holds partly."""


def fig10a(table: pd.DataFrame) -> list[Check]:
    """No trend: the slope over cases within 1.96 standard errors of 0.

    Decline: it is below that, and from each point to the next the average falls; only one of these: partly.
    """
    slope, error = _slope(table[table["method"] == "all-local"], "users")
    trendless = Check(
        "All local shows no trend over users.",
        judged([abs(slope) <= 1.96 * error + TINY]),
        f"slope {_signed(slope, error)} s per user added",
    )
    return [trendless, *_declines(table, "users", "as users are added", -1), *_comparisons(table, "users")]


def fig10b(table: pd.DataFrame) -> list[Check]:
    """The same; the users being the same for every G, all local must be equal to the last bit."""
    local = table[table["method"] == "all-local"].groupby("case")["qoe_per_user"].agg(np.ptp)
    trendless = Check(
        "All local shows no trend over GPUs.",
        judged([bool((local == 0).all())]),
        f"within a case it moves by {local.max():.3g} s at most",
    )
    return [trendless, *_declines(table, "gpus", "as GPUs are taken away", 1), *_comparisons(table, "gpus")]


def _declines(table: pd.DataFrame, x: str, direction: str, sign: int) -> list[Check]:
    """One claim for each of the proposed method and baselines 1 and 2; sign 1 where the average must rise with x."""
    found = {name: _decline(table, x, name, sign) for name in (*_NAMES, *READINGS)}
    checks = [Check(f"{_NAMES[name]} declines {direction}.", *found[name]) for name in _NAMES]
    both = "; ".join(f"{words}: {found[name][1]}" for name, words in READINGS.items())
    verdict = together(found[name][0] for name in READINGS)
    return [*checks, Check(f"Baseline 2 declines {direction}.", verdict, both)]


def _decline(table: pd.DataFrame, x: str, name: str, sign: int) -> tuple[str, str]:
    rows = table[table["method"] == name]
    slope, error = _slope(rows, x)
    mean = rows.groupby(x)["qoe_per_user"].mean()
    steps = sign * np.diff(mean)
    verdict = judged([sign * slope > 1.96 * error + TINY, bool((steps > TINY).all())])
    return verdict, (
        f"slope {_signed(slope, error)}, averages {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f} s, "
        f"{int((steps > TINY).sum())} of {len(steps)} steps in this direction"
    )


def _comparisons(table: pd.DataFrame, x: str) -> list[Check]:
    mean = table.pivot_table(index=x, columns="method", values="qoe_per_user")
    span = mean.max() - mean.min()
    gaps = {words: mean["offload-all"] - mean[name] for name, words in READINGS.items()}
    stable = [bool((gap > TINY).all() and gap.max() <= 2 * gap.min()) for gap in gaps.values()]
    rivals = ["offload-all", *READINGS]
    spans = ", ".join(f"{span[name]:.2f}" for name in rivals)
    return [
        Check(
            "Baseline 1 keeps a stable gap above baseline 2.",
            judged(stable),
            "; ".join(f"{words}: from {gap.min():.2f} to {gap.max():.2f} s" for words, gap in gaps.items()),
        ),
        Check(
            "The proposed method varies less than baselines 1 and 2.",
            judged(bool(span["drl"] < span[name] - TINY) for name in rivals),
            f"its averages span {span['drl']:.2f} s, those of baselines 1 and 2 (two readings) {spans} s",
        ),
        _outperforms(table, x, mean),
    ]


def _outperforms(table: pd.DataFrame, x: str, mean: pd.DataFrame) -> Check:
    """Above every baseline, at each point."""
    rivals = ["offload-all", *READINGS, "all-local"]
    points = (mean["drl"] - mean[rivals].max(axis=1)) > TINY
    wide = table.pivot_table(index=[x, "case"], columns="method", values="qoe_per_user")
    ahead = wide["drl"] - wide[rivals].max(axis=1)
    captured = table.loc[table["method"] == "drl", "captured_share"].mean()
    return Check(
        "It outperforms all baselines.",
        judged(points),
        f"the best average at {int(points.sum())} of {len(points)} points; in single cases better "
        f"{(ahead > TINY).mean():.1%}, as good {(ahead.abs() <= TINY).mean():.1%}, worse {(ahead < -TINY).mean():.1%}; "
        f"{captured:.3%} of the possible gain captured",
    )


GENES = {"genetic-joint": "split a gene", "genetic": "split inside"}
"""The genetic algorithm's two readings."""


def fig11(table: pd.DataFrame) -> list[Check]:
    """Beats: the higher average at each number of users.

    Poorest and least stable: mean and standard deviation of the captured share over all cases, against the proposed
    method and branch & bound.
    """
    share = table.groupby("method")["captured_share"]
    mean, spread = share.mean(), share.std().fillna(0.0)
    beaten = [
        _beats(table, rival, words) for rival, words in {"ilp-fixed": "branch & bound, split fixed", **_genes()}.items()
    ]
    rest = ["drl", "ilp-fixed"]
    others, steady = (
        f"proposed {values['drl']:{form}}, branch & bound {values['ilp-fixed']:{form}}"
        for values, form in ((mean, ".3%"), (spread, ".4f"))
    )
    poorest = [
        Check(
            f"The genetic algorithm's average is the poorest ({words}).",
            judged([bool(mean[name] < mean[rest].min() - TINY)]),
            f"captured on average {mean[name]:.3%}, {others}",
        )
        for name, words in GENES.items()
    ]
    shaky = [
        Check(
            f"The genetic algorithm is the least stable ({words}).",
            judged([bool(spread[name] > spread[rest].max() + TINY)]),
            f"standard deviation of the captured share {spread[name]:.4f}, {steady}",
        )
        for name, words in GENES.items()
    ]
    return [*beaten, *poorest, *shaky, _optimal(table)]


def _genes() -> dict[str, str]:
    return {name: f"the genetic algorithm, {words}" for name, words in GENES.items()}


def _beats(table: pd.DataFrame, rival: str, words: str) -> Check:
    wide = table.pivot_table(index="users", columns="method", values="qoe_per_user")
    ahead = wide["drl"] - wide[rival]
    notes = table.loc[table["method"] == rival, "note"].fillna("")
    told = f"; {_proven(notes)}" if notes.any() else ""
    return Check(
        f"The proposed method beats {words}.",
        judged(ahead > TINY),
        f"the higher average at {int((ahead > TINY).sum())} of {len(ahead)} numbers of users, by {ahead.min():+.3g} to "
        f"{ahead.max():+.3g} s per user{told}",
    )


def _proven(notes: "pd.Series[str]") -> str:
    """What the solver says, counted."""
    return f"proven optimal for its form in {int(notes.str.startswith(PROVEN).sum())} of {len(notes)} cases"


def _optimal(table: pd.DataFrame) -> Check:
    own = table.loc[table["method"] == "drl", "captured_share"]
    evidence = (
        f"the optimum in {(own >= 1 - TINY).mean():.1%} of cases; captured {own.mean():.3%}, at least {own.min():.2%}"
    )
    return Check("The proposed method is optimal.", judged([bool((own >= 1 - TINY).all())]), evidence)


def table1(table: pd.DataFrame) -> list[Check]:
    """Linear or better: the slope on log axes at most 1.2. Exponential: a slope beyond 3.

    A time counts only beside the share that is captured in it.
    """
    slope = table.groupby("method")["slope"].first()
    return [
        Check(
            "DRL-convex is linear in users.",
            judged([slope["drl"] <= 1.2]) if np.isfinite(slope["drl"]) else FINDING,
            f"time ~ I^{slope['drl']:.2f}, {_largest(table, 'drl')}",
        ),
        Check(
            "The genetic algorithm is linear in users.",
            judged([slope["genetic-joint"] <= 1.2]),
            f"time ~ I^{slope['genetic-joint']:.2f}, {_largest(table, 'genetic-joint')}",
        ),
        _slower(table, "genetic-joint", "The genetic algorithm is slower than the proposed method."),
        Check(
            "Branch & bound takes exponential time, impractical for many users.",
            judged([slope["ilp-fixed"] > 3]),
            f"HiGHS takes time ~ I^{slope['ilp-fixed']:.2f}, {_largest(table, 'ilp-fixed')}; "
            + _proven(table.loc[table["method"] == "ilp-fixed", "note"].fillna("")),
        ),
        _slower(table, "exact", "An exact solution is out of reach, the problem being NP-hard (Proposition 1)."),
    ]


def _largest(table: pd.DataFrame, method: str) -> str:
    """Time and captured share at the most users that the method was measured for."""
    rows = table[(table["method"] == method) & table["seconds"].notna()].sort_values("users")
    if rows.empty:
        return "never measured"
    last = rows.iloc[-1]
    return f"{duration(last['seconds'])} at {last['users']} users ({last['captured_share']:.2%} captured)"


def _slower(table: pd.DataFrame, method: str, claim: str) -> Check:
    """Slower than the proposed method at the most users where both were measured."""
    wide = table.pivot_table(index="users", columns="method", values="seconds")
    both = wide[[name for name in ("drl", method) if name in wide]].dropna()
    evidence = f"{_largest(table, method)}; proposed {_largest(table, 'drl')}"
    if len(both.columns) < 2 or both.empty:
        return Check(claim, FINDING, evidence)
    return Check(claim, judged([bool(both[method].iloc[-1] > both["drl"].iloc[-1])]), evidence)


def duration(seconds: float) -> str:
    """Seconds for people, two figures."""
    if seconds < 1:
        return f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else f"{1e3 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _slope(rows: pd.DataFrame, x: str) -> tuple[float, float]:
    """Slope over cases of the least-squares line of the average QoE per user, and its standard error."""
    at, y = rows[x].to_numpy(float), rows["qoe_per_user"].to_numpy(float)
    centred = at - at.mean()
    if len(at) < 3 or not centred.any():
        return 0.0, 0.0
    square = float(centred @ centred)
    slope = float(centred @ y) / square
    left = y - y.mean() - slope * centred
    return slope, float(np.sqrt(left @ left / (len(at) - 2) / square))


def _signed(slope: float, error: float) -> str:
    return f"{slope:+.3f} ± {1.96 * error:.3f}"


# -- beyond the paper ---------------------------------------------------------------------------------------


def beyond_shrinking(table: pd.DataFrame) -> list[Check]:
    """How much the paper's simplification costs; only where offloading gains anything."""
    claim = "The paper charges every step at the full batch."
    some = table[table["possible"] > TINY]
    if some.empty:
        return [Check(claim, FINDING, "offloading gains nothing in any of these cases")]
    of = (some["more_s"] / some["possible"]).groupby(some["plan"]).mean()
    return [
        Check(
            claim,
            FINDING,
            "with a batch that shrinks as users finish, in shares of what offloading gains: the proposed method's "
            f"plans are worth {of['proposed']:.2%} more, the optimum's {of['optimum']:.2%}; a local search from these "
            f"finds {of['search']:.2%} on top",
        )
    ]


PARAMETERS = {"steepness": "a_F", "midpoint": "b_F", "slope_s": "k_e", "intercept_s": "h_e", "step_latency_s": "L_i"}


def beyond_sensitivity(table: pd.DataFrame) -> list[Check]:
    """What matters most."""
    share = table.groupby("parameter")["lost_share"]
    mean, tail = share.mean(), share.quantile(0.95)
    kinds = table.groupby("parameter")["interval"].first()
    parts = [
        f"{PARAMETERS[str(p)]} {mean[p]:.2%} (95th percentile {tail[p]:.2%}; {kinds[p]})"
        for p in mean.sort_values().index[::-1]
    ]
    return [Check("A parameter at an end of its interval.", FINDING, "lost share of the gain: " + ", ".join(parts))]


def beyond_latents(table: pd.DataFrame) -> list[Check]:
    """Gain in QoE and granted users."""
    big, small = max(table["latent_bits"]), min(table["latent_bits"])
    mean = table.groupby("latent_bits")[["qoe_per_user", "granted", "mean_latency_s"]].mean()
    won = mean.loc[small] - mean.loc[big]
    return [
        Check(
            "fp16 latents instead of pictures.",
            FINDING,
            f"{small:,.0f} instead of {big:,.0f} bit: {won['qoe_per_user']:.2f} s of QoE more per user, "
            f"{mean.loc[small, 'granted']:.1f} instead of {mean.loc[big, 'granted']:.1f} users granted, "
            f"{-won['mean_latency_s']:.2f} s less average latency",
        )
    ]


def beyond_gpus(table: pd.DataFrame) -> list[Check]:
    """The fewest GPUs for the wanted latency; without one for round shares of the best."""
    mean = table.set_index("gpus")["mean"]
    best, goal = float(mean.min()), float(table["goal_s"].iloc[0])
    within = [(percent, fewest(mean, (1 + percent / 100) * best)) for percent in (20, 10, 5)]
    wanted = ", ".join(f"{gpus} to within {percent} %" for percent, gpus in within)
    evidence = f"{mean.iloc[0]:.1f} s with {mean.index[0]}, at best {best:.1f} s; of it, fewest GPUs: {wanted}"
    if np.isfinite(goal):
        needed = fewest(mean, goal)
        found = f"{needed} GPUs" if needed else f"more than the {mean.index[-1]} GPUs tried, or never"
        evidence = f"an average of {goal:g} s needs {found}; {evidence}"
    return [Check("GPUs needed for a wanted average latency.", FINDING, evidence)]


def fewest(mean: "pd.Series[float]", most_s: float) -> int | None:
    """The fewest GPUs with an average latency of `most_s` or less; None where none of those tried has it."""
    enough = mean.index[mean <= most_s]
    return int(enough[0]) if len(enough) else None
