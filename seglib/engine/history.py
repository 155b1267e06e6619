"""What happened in each epoch: as rows, as a table, as files. (`plot_history` draws it.)"""

import csv
import math
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from seglib.util.files import atomic_write

# What the table and the file show, and with which format.
COLUMNS = {"epoch": "d", "lr": ".2e", "train_loss": ".4f", "val_loss": ".4f", "val_miou": ".4f"}
COLUMNS |= {"skipped_steps": ".0f", "peak_gb": ".2f", "images_per_second": ".1f", "seconds": ".1f"}


@dataclass
class History:
    """The rows of a run, one dict an epoch; the best one has the highest val mIoU.

    Keys: epoch (from 1), lr (at its start), train_loss, val_loss (means over valid pixels),
    val_miou (fraction), images_per_second (of training), seconds (training and evaluation); with
    float16 skipped_steps, whose gradients overflowed; on CUDA peak_gb, of tensors, in 10⁹ bytes.

    >>> history = History([{"epoch": 1, "val_miou": 0.25}, {"epoch": 2, "val_miou": 0.5}])
    >>> print(history.table())
    epoch  val_miou
        1    0.2500
        2    0.5000  best
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    best_key: str = "val_miou"

    @property
    def best(self) -> dict[str, float]:
        """The row of the best epoch; the earliest of equals. Raises ValueError without rows."""
        if not self.rows:
            raise ValueError("the history is empty: no epoch has ended yet")
        return self.rows[self._best_index()]

    def _best_index(self) -> int:
        sign = 1 if self.best_key.endswith("loss") else -1
        keys = [sign * row[self.best_key] for row in self.rows]
        return min(range(len(keys)), key=lambda i: math.inf if math.isnan(keys[i]) else keys[i])

    def epochs_since_best(self) -> int:
        """How many epochs have ended since the best one (0 without rows)."""
        return len(self.rows) - 1 - self._best_index() if self.rows else 0

    def last_score(self) -> str:
        """The last val mIoU as the end of a progress bar's label; empty without one."""
        miou = self.rows[-1].get("val_miou") if self.rows else None
        return "" if miou is None else f" · val mIoU {miou:.3f}"

    def _columns(self) -> list[str]:
        return [name for name in COLUMNS if any(name in row for row in self.rows)]

    def table(self) -> str:
        """A text table, a line per epoch."""
        names = self._columns()
        lines = ["  ".join(name.rjust(5) for name in names)]
        for i, row in enumerate(self.rows):
            cells = [format(row[key], COLUMNS[key]) if key in row else "–" for key in names]
            wide = [cell.rjust(max(len(key), 5)) for key, cell in zip(names, cells, strict=True)]
            lines.append("  ".join(wide) + ("  best" if i == self._best_index() else ""))
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike[str], figure: bool = True) -> None:
        """Write history.csv, and history.png if asked for, each whole or not at all.

        They repeat what last.pt holds: one that a spreadsheet locks is worth a warning only.
        """
        try:
            with (
                atomic_write(Path(folder) / "history.csv") as temporary,
                open(temporary, "w", newline="") as handle,
            ):
                writer = csv.DictWriter(handle, self._columns())
                writer.writeheader()
                writer.writerows(self.rows)
            if figure:
                from seglib.plotting import plot_history

                with atomic_write(Path(folder) / "history.png") as temporary:
                    drawn = plot_history(self.rows)
                    drawn.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
        except OSError as error:
            warnings.warn(f"the history was not written ({error}); go on", stacklevel=2)
