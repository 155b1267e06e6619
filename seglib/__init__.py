"""seglib: the helper package of Every Pixel, a course in semantic segmentation with PyTorch.

Nothing heavy is imported here: `import seglib` stays under half a second, and
`from seglib.models import create_model` loads PyTorch when it is needed.
"""

import os
import sys

if "torch" not in sys.modules:  # read when torch loads: waiting threads sleep instead of spinning
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0.dev0"
