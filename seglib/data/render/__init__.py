"""The renderer: street scenes and scans with exact labels, any number of them."""

from seglib.data.render.scan import Scan, render_scan
from seglib.data.render.street import Scene, render_scene

__all__ = ["Scan", "Scene", "render_scan", "render_scene"]
