"""The tables of accuracy.md from raw results.

    uv run python benchmarks/accuracy_tables.py benchmarks/results/camvid.json

Numbers are in percent unless the column says otherwise, a mean over seeds with the standard
deviation (n - 1); what is compared is compared seed by seed.
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BASELINE = "partial-ce"
OURS = "agmm"

Run = Mapping[str, Any]
Row = tuple[str, str]
"""Label forms, and the name of a method or variant."""


def by_row(results: Iterable[Run]) -> dict[Row, list[Run]]:
    """The runs of each row, by their seeds."""
    rows: dict[Row, list[Run]] = defaultdict(list)
    for result in sorted(results, key=lambda result: result["seed"]):
        rows[result["labels"], result["method"]].append(result)
    order = dict.fromkeys((result["labels"], result["method"]) for result in results)
    return {row: rows[row] for row in order}


def mean_text(values: Sequence[float]) -> str:
    """Mean ± standard deviation, in percent."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def signed(difference: float) -> str:
    """A difference in points, with a minus that is one."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def differences(found: Sequence[Run], others: Sequence[Run]) -> list[float]:
    """How far the runs are above the others with the same seed."""
    reference = {run["seed"]: run["miou"] for run in others}
    return [run["miou"] - reference[run["seed"]] for run in found if run["seed"] in reference]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main_table(results: Sequence[Run]) -> str:
    """The mIoU of the last weights of every method, beside that of the baseline and full masks."""
    rows = by_row(results)
    ceiling = [run["miou"] for run in rows.get(("dense", "dense"), [])]
    lines = []
    for (labels, method), found in rows.items():
        scores = [run["miou"] for run in found]
        gains = differences(found, rows.get((labels, BASELINE), []))
        share = statistics.mean(scores) / statistics.mean(ceiling) if ceiling else None
        lines.append(
            [
                labels,
                f"`{method}`",
                mean_text(scores),
                "; ".join(f"{run['seed']}: {100 * run['miou']:.1f}" for run in found),
                "" if method == BASELINE else ", ".join(map(signed, gains)),
                "" if share is None else f"{100 * share:.0f} %",
                f"{100 * statistics.mean(run['pixel_accuracy'] for run in found):.1f}",
            ]
        )
    head = ["labels", "method", "val mIoU, %", "seeds", f"to `{BASELINE}`", "of `dense`"]
    return table([*head, "pixel accuracy, %"], lines)


def distance_table(results: Sequence[Run]) -> str:
    """How far `agmm` is above every other method, in points: the mean, and seed by seed."""
    rows = by_row(results)
    forms = [labels for labels, method in rows if method == OURS]
    others = dict.fromkeys(m for labels, m in rows if labels in forms and m != OURS)
    lines = []
    for method in others:
        cells = []
        for labels in forms:
            gains = differences(rows[labels, OURS], rows.get((labels, method), []))
            each = ", ".join(map(signed, gains))
            cells.append(f"**{signed(statistics.mean(gains))}** ({each})" if gains else "")
        lines.append([f"`{method}`", *cells])
    return table([f"`{OURS}` above", *forms], lines)


def variant_table(results: Sequence[Run]) -> str:
    """Every variant beside the default, with the options that it changes."""
    rows = by_row(results)
    lines = []
    for (labels, name), found in rows.items():
        gains = differences(found, rows.get((labels, OURS), []))
        options = {**found[0]["options"], **found[0]["options"].get("objective", {})}
        options.pop("objective", None)
        changed = ", ".join(f"{key}: {value}".lower() for key, value in options.items())
        lines.append(
            [
                labels,
                "**the default**" if name == OURS else name,
                f"`{changed}`" if changed else "",
                "; ".join(f"{run['seed']}: {100 * run['miou']:.1f}" for run in found),
                "" if name == OURS else ", ".join(map(signed, gains)),
                ", ".join(f"{100 * run['pixel_accuracy']:.1f}" for run in found),
            ]
        )
    head = ["labels", "variant", "options", "val mIoU, % (seed)", "to the default"]
    return table([*head, "pixel accuracy, %"], lines)


def cost_table(results: Sequence[Run]) -> str:
    """Steps, and medians of the time of a step and of the peak memory."""
    lines = []
    for (labels, method), found in by_row(results).items():
        steps = "/".join(sorted({str(run["steps"]) for run in found}))
        cost = [f"{median(found, 'step_seconds'):.3g}", f"{median(found, 'peak_memory_mib'):.0f}"]
        lines.append([labels, f"`{method}`", str(len(found)), steps, *cost])
    return table(["labels", "method", "runs", "steps", "s per step", "peak, MiB"], lines)


def median(found: Sequence[Run], name: str) -> float:
    """Median over the runs that have measured it; NaN if none has."""
    values = [run[name] for run in found if run[name] is not None]
    return statistics.median(values) if values else float("nan")


def class_table(results: Sequence[Run]) -> str:
    """Mean IoU of every class; a class that a run neither met nor predicted does not count."""
    names = list(results[0]["iou"]) if results else []
    lines = []
    for (labels, method), found in by_row(results).items():
        cells = []
        for name in names:
            values = [100 * run["iou"][name] for run in found if run["iou"][name] is not None]
            cells.append(f"{statistics.mean(values):.1f}" if values else "")
        lines.append([labels, f"`{method}`", *cells])
    return table(["labels", "method", *names], lines)


def all_tables(results: Sequence[Run], *, variants: bool) -> str:
    """All of them, one after the other; of methods, or of variants of one."""
    first = [variant_table(results) if variants else main_table(results)]
    if not variants and {OURS} < {run["method"] for run in results}:
        first.append(distance_table(results))
    return "\n\n".join([*first, cost_table(results), class_table(results)]) + "\n"


def main() -> None:
    """Print the tables of a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="JSON file of benchmarks/quality.py")
    raw = json.loads(parser.parse_args().results.read_text())
    print(all_tables(raw["runs"], variants="variants" in raw))


if __name__ == "__main__":
    main()
