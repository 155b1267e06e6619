"""How the lessons draw means and differences of recorded runs."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from seglib.metrics.scores import Interval


def draw_intervals(
    axis: Axes, rows: Mapping[str, Interval], colour: str = "#0072b2", numbers: bool = False
) -> None:
    """Means with their intervals, one row for each name, the first at the top."""
    places = [-place for place in range(len(rows))]
    means = [row.value for row in rows.values()]
    reach = [row.high - row.value for row in rows.values()]
    axis.errorbar(means, places, xerr=reach, fmt="o", capsize=3, color=colour)
    axis.set_yticks(places, list(rows))
    axis.set_ylim(0.5 - len(rows), 0.5)
    if min(row.low for row in rows.values()) < 0 or any("−" in name for name in rows):
        axis.axvline(0, color="black", linewidth=0.8)
    for place, row in zip(places, rows.values() if numbers else (), strict=False):
        axis.text(row.value, place + 0.14, f"{row.value:+.2f}", ha="center", fontsize=10)
