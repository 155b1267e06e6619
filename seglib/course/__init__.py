"""What the lessons call beside the library: their set-up, photos, records, and a check-up."""

from seglib.course.doctor import doctor
from seglib.course.setup import setup

__all__ = ["doctor", "setup"]
