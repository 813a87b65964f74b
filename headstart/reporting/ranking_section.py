"""Which pretrained weights were to choose from, what was measured of each, and what spoke for the chosen ones."""

from __future__ import annotations

from typing import Any

from headstart.reporting import charts
from headstart.reporting.folder import RunFolder
from headstart.reporting.wording import duration, is_number, percent, sentence, text


def ranking_section(run: RunFolder) -> dict[str, Any]:
    """Everything about the choice of the weights; empty where there was none."""
    found = run.ranking
    rows = found.get("rows") or ()
    if not rows:
        return {}
    return {
        "images": found.get("images"),
        "of": found.get("of"),
        "seconds": duration(found.get("seconds")),
        "reason": sentence(found.get("reason")),
        "chart": charts.interval_chart(
            [
                charts.Mark(
                    label=text(row["weights"]),
                    value=row["expected"],
                    low=row["low"],
                    high=row["high"],
                    main=row["weights"] == found.get("chosen"),
                )
                for row in rows
            ],
            x="right answers expected of a linear head",
        ),
        "rows": [
            {
                "name": text(row["weights"]),
                "chosen": row["weights"] == found.get("chosen"),
                "best": percent(row.get("best")),
                "tied": bool(row.get("tied")) and len(rows) > 1,
                "latency": f"{row['latency']:.0f} ms" if is_number(row.get("latency")) else "",
                "million": f"{row['parameters'] / 1e6:.1f}" if is_number(row.get("parameters")) else "",
                "licence": text(row.get("licence")),
                "why": sentence(row.get("why")),
            }
            for row in rows
        ],
        "pilots": [
            {
                "name": text(each["weights"]),
                "accuracy": percent(each.get("accuracy")),
                "error": percent(each.get("error")),
                "seconds": duration(each.get("seconds")),
                "images": each.get("images"),
                "trained": each.get("trained"),
            }
            for each in found.get("pilots") or ()
        ],
        "skipped": [f"{text(each['weights'])}: {text(each['why'])}" for each in found.get("skipped") or ()],
        "offers": [f"{text(each['weights'])}: {text(each['why'])}" for each in found.get("offers") or ()],
    }
