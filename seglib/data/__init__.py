"""Data sets of image–mask pairs, their statistics, and batches of them.

Cheap to import: PyTorch and albumentations are loaded where they are used.
"""

from seglib.data.dataset import FolderDataset, SegmentationDataset
from seglib.data.download import DownloadError
from seglib.data.loader import EpochSampler, SampleKey, make_loader
from seglib.data.reading import read_image, read_mask
from seglib.data.rendered import RenderedScans, RenderedStreets
from seglib.data.sets import DATASETS, CamVid, NamedDataset, Scans, Streets, Ultrasound
from seglib.data.statistics import ClassStatistics, Report, class_statistics

__all__ = ["DATASETS", "CamVid", "NamedDataset", "Scans", "Streets", "Ultrasound"]
__all__ += ["FolderDataset", "RenderedScans", "RenderedStreets", "SegmentationDataset"]
__all__ += ["ClassStatistics", "Report", "class_statistics", "read_image", "read_mask"]
__all__ += ["DownloadError", "EpochSampler", "SampleKey", "make_loader"]
