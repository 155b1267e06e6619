"""Exercises that check answers: `from seglib.exercises import lesson01 as ex`, then `ex.NAME`."""

from __future__ import annotations

import importlib
import pkgutil

from seglib.exercises.kit import Lesson


def lessons() -> list[Lesson]:
    """Every lesson that has exercises, in order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name.startswith("lesson"))
    return [importlib.import_module(f"{__name__}.{name}").LESSON for name in names]


def table() -> str:
    """All exercises: lesson, name, kind, title and the outcome that each tests."""
    lines = []
    for lesson in lessons():
        lines.append(f"lesson {lesson.number}")
        for exercise in lesson.exercises.values():
            lines.append(f"  ex.{exercise.name} ({exercise.kind}): {exercise.title}")
            lines.append(f"      tests: {lesson.outcomes[exercise.outcome]}")
    return "\n".join(lines)
