"""Pictures of masks, predictions and training runs.

Everything takes arrays, class names and a palette, and knows no other part of seglib. Images are
uint8 (H, W, 3) RGB, masks integer (H, W), palettes (C, 3); NumPy and PyTorch both do, and nothing
that is handed in gets changed.

`show_…` and `plot_…` return a Matplotlib Figure that pyplot has already let go of: as the last
expression of a cell it appears once, in the middle of a cell call `display(figure)`, in a script
`figure.savefig("name.png")`. The others return arrays at the mask's own size.
"""

from seglib.plotting.arrays import VOID_COLOUR, colorize, error_map, paint_errors
from seglib.plotting.charts import plot_class_shares, plot_history
from seglib.plotting.grids import legend, show_predictions
from seglib.plotting.overlay import overlay, place_labels

__all__ = ["VOID_COLOUR", "colorize", "error_map", "legend", "overlay", "paint_errors"]
__all__ += ["place_labels", "plot_class_shares", "plot_history", "show_predictions"]
