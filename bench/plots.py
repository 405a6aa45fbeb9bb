"""The bench's plots, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAMES = {
    "ours": "rgpipeline (Griffin)",
    "official": "official sampler (Griffin)",
    "hf": "Hugging Face (Griffin)",
    "gemma": "Hugging Face Gemma (transformer)",
}


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draws the sections that have results; returns the files."""
    drawn = []
    if "figure_1a" in results:
        drawn.append(_figure_1a(results["figure_1a"], folder / "figure_1a.png"))
    compared = [name for name in ("fixed", "mixed", "long_prompt") if name in results]
    if compared:
        drawn.append(_workloads(results, compared, folder / "workloads.png"))
    return drawn


def _figure_1a(result: dict[str, Any], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for peer, curve in result["curves"].items():
        label = f"{NAMES[peer]}, {curve['dtype']}"
        axes.plot(result["lengths"], curve["tokens_per_s"], marker="o", label=label)
    axes.set_xlabel(f"tokens generated after a prompt of {result['prompt']:,}")
    axes.set_ylabel(f"tokens/s, {result['batch']} sequences at once")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _workloads(results: dict[str, Any], names: Sequence[str], path: Path) -> Path:
    figure, all_axes = plt.subplots(
        1, len(names), figsize=(3.2 * len(names), 3.6), layout="constrained", squeeze=False
    )
    for name, axes in zip(names, all_axes[0], strict=True):
        runs = results[name]["peers"]
        bars = axes.bar(list(runs), [run["tokens_per_s"] for run in runs.values()])
        axes.bar_label(bars, fmt="{:,.0f}")
        axes.set_title(name.replace("_", " "))
    all_axes[0][0].set_ylabel("tokens/s, end to end")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
