"""What is seen while a cell trains: a bar on a terminal, a line an epoch elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.engine import Run
from experiments.recipe import Recipe


class Display:
    """The bar counts steps of the whole training; only the first process shows it."""

    def __init__(self, recipe: Recipe, quiet: bool) -> None:
        self.console = Console(highlight=False, quiet=quiet, soft_wrap=True)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]}"),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[rate]:.0f} images/s"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(recipe.cell, total=None, epoch="1", loss=float("nan"), rate=0.0)
        self.last = (time.monotonic(), 0)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False)

    def step(self, run: Run) -> None:
        """Move the bar."""
        done = run.epoch * run.steps + run.step
        now, (then, before) = time.monotonic(), self.last
        rate = (done - before) * run.recipe.batch_size / (now - then) if 0 < before < done else 0.0
        self.last = (now, done)
        self.bar.update(
            self.task,
            completed=done,
            total=run.recipe.epochs * run.steps,
            epoch=f"{run.epoch + 1}/{run.recipe.epochs}",
            loss=run.loss_sum / run.step,
            rate=rate,
        )

    def epoch(self, run: Run) -> None:
        """Print the last epoch where there is no bar to show it."""
        if self.console.is_terminal:
            return
        last = run.history[-1]
        error = "" if last["test_error"] is None else f"  test error {100 * last['test_error']:.2f} %"
        self.say(
            f"epoch {run.epoch}/{run.recipe.epochs}  loss {last['train_loss']:.4f}{error}  "
            f"lr {last['learning_rate']:.3g}  {last['seconds']:.0f} s"
        )
