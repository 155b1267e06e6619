"""Exercises that check answers: `from seglib.exercises import lesson01 as ex`, then `ex.NAME`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from seglib.exercises import progress
from seglib.exercises.kit import Lesson


def lessons() -> list[Lesson]:
    """Every lesson that has exercises, in order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name.startswith("lesson"))
    return [importlib.import_module(f"{__name__}.{name}").LESSON for name in names]


def _done(lesson: Lesson, entries: Mapping[str, Mapping[str, str]]) -> str:
    """ "2 of 6 correct", and the day of the last one."""
    days = [
        entries[name]["correct"] for name in lesson.exercises if "correct" in entries.get(name, {})
    ]
    last = f", the last on {max(days)}" if days else ""
    return f"{len(days)} of {len(lesson.exercises)} correct{last}"


def table(stored: progress.Progress | None = None) -> str:
    """All exercises: lesson, name, kind, title and the outcome that each tests.

    With what is `stored` of a reader's progress: how many and which are correct, since when.
    """
    lines = []
    for lesson in lessons():
        entries = (stored or {}).get(lesson.number, {})
        lines.append(
            f"lesson {lesson.number}" + (f" · {_done(lesson, entries)}" if entries else "")
        )
        for exercise in lesson.exercises.values():
            entry = entries.get(exercise.name, {})
            since = f"correct on {entry['correct']}" if "correct" in entry else entry.get("state")
            ended = f" · {since}" if since else ""
            lines.append(f"  ex.{exercise.name} ({exercise.kind}): {exercise.title}{ended}")
            lines.append(f"      tests: {lesson.outcomes[exercise.outcome]}")
    return "\n".join(lines)


def overview() -> str:
    """Where the reader stands: for each lesson, how many exercises are correct."""
    stored = progress.load(progress.find())
    found = [(lesson.number, _done(lesson, stored.get(lesson.number, {}))) for lesson in lessons()]
    return "\n".join(f"lesson {int(number)} · {done}" for number, done in found)
