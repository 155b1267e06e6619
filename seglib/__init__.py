"""seglib: the helper package of Every Pixel, a course in semantic segmentation with PyTorch.

Nothing heavy is imported here: `import seglib` stays under half a second, and
`from seglib.models import create_model` loads PyTorch when it is needed.
"""

__version__ = "0.1.0.dev0"
