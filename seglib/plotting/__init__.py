"""Pictures of masks, predictions and training runs.

Everything takes arrays, class names and a palette, and knows no other part of seglib. Images are
uint8 (H, W, 3), or float tensors (3, H, W) with the `mean` and `std` that normalised them; masks
are integer (H, W); NumPy and PyTorch both do, and nothing that is handed in gets changed.

`colorize`, `overlay`, `error_map` and `paint_errors` return arrays at the mask's own size. All
`show_…` and `plot_…` functions return a Matplotlib Figure that pyplot has already let go of: as the
last expression of a cell it appears once, in the middle of a cell call `display(figure)`, in a
script `figure.savefig("name.png")`.
"""

from seglib.plotting.arrays import VOID_COLOUR, as_image, colorize, error_map
from seglib.plotting.charts import plot_class_shares, plot_confusion_matrix, plot_history
from seglib.plotting.grids import legend, paint_errors, show_predictions, show_samples
from seglib.plotting.overlay import Label, overlay, place_labels

__all__ = [
    "VOID_COLOUR",
    "Label",
    "as_image",
    "colorize",
    "error_map",
    "legend",
    "overlay",
    "paint_errors",
    "place_labels",
    "plot_class_shares",
    "plot_confusion_matrix",
    "plot_history",
    "show_predictions",
    "show_samples",
]
