"""The main job on real data: check a loss, compile it, train with it, and compare with torch's own.

The data are scikit-learn's handwritten digits (UCI, 1,797 images): "is it an 8?" is true for one image in ten.
Run it with `make demo`; results go to `demo-out/`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_score, recall_score
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo-out"
FOCAL = HERE / "classification" / "focal.loss"
EPOCHS, BATCH = 60, 64

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Result:
    """What one training gave on the held-out images."""

    name: str
    scores: np.ndarray
    precision: float
    recall: float
    average_precision: float
    seconds: float
    history: list[float]


def command(console: Console, *words: str) -> None:
    """Run a lossdsl command as a user would, its output on the terminal."""
    console.print(f"[bold cyan]$ lossdsl {' '.join(words)}[/]")
    subprocess.run([sys.executable, "-m", "lossdsl", *words], check=True, cwd=HERE.parent)
    console.print()


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images as float32 [n, 64] in [0, 1] and labels "is it an 8" as float32 [n], split into train and test."""
    images, digit = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32)
    y = torch.tensor(digit == 8, dtype=torch.float32)
    train, test = train_test_split(np.arange(len(x)), test_size=0.4, random_state=0, stratify=digit)
    return x[train], y[train], x[test], y[test]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1), torch.nn.Flatten(0))


def train(name: str, loss: Loss, progress: Progress) -> Result:
    """Train the same network, from the same start, on the same batches, with another loss."""
    x, y, x_test, y_test = digits()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(1)
    batches = (len(x) + BATCH - 1) // BATCH
    task = progress.add_task(name, total=EPOCHS * batches)
    seconds, history = [], []
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        total = 0.0
        for rows in order.split(BATCH):
            start = time.perf_counter()
            optimizer.zero_grad()
            value = loss(model(x[rows]), y[rows])
            value.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
            total += float(value.detach())
            progress.advance(task)
        history.append(total / batches)
    with torch.no_grad():
        scores = torch.sigmoid(model(x_test)).numpy()
    truth = y_test.numpy()
    predicted = scores > 0.5
    return Result(
        name,
        scores,
        float(precision_score(truth, predicted)),
        float(recall_score(truth, predicted)),
        float(average_precision_score(truth, scores)),
        float(np.median(seconds)),
        history,
    )


def table(results: list[Result]) -> Table:
    out = Table(title="Is it an 8? 719 held-out images, 70 of them are")
    for heading in ("loss", "precision", "recall", "average precision", "ms a step"):
        out.add_column(heading, justify="left" if heading == "loss" else "right")
    for r in results:
        out.add_row(
            r.name,
            f"{r.precision:.3f}",
            f"{r.recall:.3f}",
            f"{r.average_precision:.4f}",
            f"{1000 * r.seconds:.3f}",
        )
    return out


def plot(results: list[Result], path: Path) -> None:
    truth = digits()[3].numpy()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for r in results:
        left.semilogy(np.array(r.history) / r.history[0], label=r.name)
        precision, recall, _ = precision_recall_curve(truth, r.scores)
        right.plot(recall, precision, label=f"{r.name} (AP {r.average_precision:.3f})")
    left.set(xlabel="epoch", ylabel="training loss / first epoch", title="Training")
    right.set(xlabel="recall", ylabel="precision", title="Held-out images", ylim=(0, 1.02))
    left.legend()
    right.legend(loc="lower left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    console = Console()
    OUT.mkdir(exist_ok=True)
    spec = str(FOCAL.relative_to(HERE.parent))
    command(console, "check", spec)
    command(console, "compile", spec, "--target", "torch", "-o", str(OUT / "focal.py"), "--force")
    command(console, "plot", spec, "-o", str(OUT / "focal.png"))

    sys.path.insert(0, str(OUT))
    from focal import Focal  # the module that was just written

    bce = torch.nn.BCEWithLogitsLoss()
    columns = (TextColumn("{task.description:>28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        results = [
            train("torch binary cross-entropy", bce, progress),
            train("lossdsl focal", Focal(alpha=0.75), progress),
        ]
    console.print(table(results))
    plot(results, OUT / "training.png")
    console.print(f"wrote {OUT / 'focal.py'}, {OUT / 'focal.png'} and {OUT / 'training.png'}")


if __name__ == "__main__":
    main()
