"""Experiments: records that are whole and not stale, runs that resume, baselines by hand."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import Toy, load_script, wait_for

from seglib.data import CamVid
from seglib.training import evaluate
from seglib.transforms import eval_transform

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"
SCRIPTS = sorted(path.stem for path in EXPERIMENTS.glob("[0-9]*.py"))
each_script = pytest.mark.parametrize("script", SCRIPTS)
sys.path.insert(0, str(EXPERIMENTS))

import arms  # noqa: E402
import baselines  # noqa: E402
import fingerprints  # noqa: E402
import records  # noqa: E402
from records import Job, Part, Record  # noqa: E402

PLAIN = {"height": 16, "width": 24, "zoom": [1.0, 1.0], "stretch": 1.0, "flip": 0.5, "colour": 0.0}
TINY = {**PLAIN, "base_channels": 2, "batch_size": 2, "lr": 0.01, "weight_decay": 0.01}
TINY["class_weights"] = "enet"


def load(script):
    return load_script(EXPERIMENTS / f"{script}.py")


def record_of(script):
    found = records.FOLDER / f"{script}.json"
    if not found.exists():
        pytest.skip(f"{script}.py has no record yet; `make experiments` writes it")
    return json.loads(found.read_text(encoding="utf-8"))


@each_script
def test_the_record_belongs_to_the_code_that_is_here(script):
    record, parts, stale = record_of(script), load(script).PARTS, set()
    for name, part in record["parts"].items():
        marks = {}
        for run in part["runs"]:
            data = parts[name].data_of(run["arm"])
            marks[data] = marks.get(data) or parts[name].mark(run["arm"])
            stale |= {name} if run["fingerprint"] != marks[data] else set()
    assert not stale, f"measure again: python experiments/{script}.py {' '.join(stale)}"


@each_script
def test_the_record_is_whole(script):
    record, parts = record_of(script), load(script).PARTS
    assert (record["schema"], record["experiment"]) == (1, script)
    for machine in record["machines"].values():
        assert machine["hardware"] and machine["threads"] > 0 and machine["revision"]
        assert {"python", "torch", "numpy", "scikit-learn"} <= set(machine["versions"])
    assert set(record["parts"]) == set(parts)
    for name, part in record["parts"].items():
        assert part["settings"] == parts[name].settings and part["code"] == list(parts[name].code)
        runs = {(run["arm"], run["seed"]) for run in part["runs"]}
        assert len(runs) == len(part["runs"]) >= parts[name].seeds
        for run in part["runs"]:
            assert run["seconds"] >= 0 and run["machine"] in record["machines"]
            for scores in (value for value in run.values() if isinstance(value, dict)):
                if "miou" in scores:
                    iou = [value for value in scores["iou"].values() if value is not None]
                    assert scores["miou"] == pytest.approx(np.mean(iou), abs=1e-4)
            if "curve" in run:
                curve = run["curve"]  # of all epochs, as a list, or of some, by number
                epochs = set(
                    map(int, curve if isinstance(curve, dict) else range(1, len(curve) + 1))
                )
                assert run["images_seen"] > 0 and len(curve) in (run["epochs"], 12)
                assert {1, run["epochs"]} <= epochs <= set(range(1, run["epochs"] + 1))
            if "watched" in run:  # in batches of four, after every epoch
                steps = [found["step"] for found in run["watched"]]
                assert len(steps) == run["epochs"] and steps == sorted(set(steps))
                assert steps[-1] * 4 == run["images_seen"]


@each_script
def test_what_parts_declare_exists(script):
    parts = load(script).PARTS.values()
    arms = [
        (part, arm)
        for part in parts
        for arm in ("", *{v: k for k, v in part.data.items()}.values())
    ]
    marks = [part.mark(arm) for part, arm in arms]  # (arms of the same data have the same mark)
    assert {len(mark) for mark in marks} == {16} and len(set(marks)) == len(marks)


@each_script
def test_every_run_that_the_script_asks_for_is_recorded(script, monkeypatch):
    """The script is played: it asks for its runs, and none is measured."""
    content = record_of(script)
    monkeypatch.setattr(Part, "mark", lambda *_: "")
    for run in (run for part in content["parts"].values() for run in part["runs"]):
        run["fingerprint"] = ""  # (whether they are stale is another test's question)
    monkeypatch.setattr(Record, "read", lambda _: content)
    for name, part in load(script).PARTS.items():
        asked, job = set(), Job(name, part, Record(records.FOLDER / f"{script}.json"))
        monkeypatch.setattr(Job, "once", lambda _, arm, seed, *__, to=asked: to.add((arm, seed)))
        part.run(job)
        recorded = {(run["arm"], run["seed"]) for run in content["parts"][name]["runs"]}
        assert asked <= recorded, name
        assert asked == recorded or job.said, name  # (where a data set is not here, it says so)


def nearer(arm):
    """Sizes that were not tuned took the rate of the nearer one: 15 up to 30, 240 from 60; and
    Tversky's losses on lesions that of Dice, which the lesson says."""
    if "Tversky" in arm:
        return "lesions of 1 %, Dice"
    size = arm.partition(", ")[2].partition(" images")[0]
    return arm.replace(f" {size} ", f" {15 if size in ('15', '30') else 240} ")


TUNED = ["01_half_pixel tuning arms", "02_unet tuning arms", "02_unet tuning live"]
TUNED += ["03_losses tuning_lesions lesions", "03_losses tuning_streets streets"]


@pytest.mark.parametrize(("script", "tuning", "name"), [line.split() for line in TUNED])
def test_every_run_used_the_learning_rate_that_won_on_dev(script, tuning, name):
    record, parts, scores = record_of(script)["parts"], load(script).PARTS, {}
    for run in record[tuning]["runs"]:
        arm, _, rate = run["arm"].rpartition(", lr ")
        assert run["lr"] == float(rate) and not {"test", "val"} & set(run)
        scores.setdefault(arm, {})[run["lr"]] = run["dev"]["miou"]
    for run in record[name]["runs"]:
        found = scores[run["arm"] if run["arm"] in scores else nearer(run["arm"])]
        assert set(found) == set(parts[tuning].settings["rates"]), run["arm"]
        assert found[run["lr"]] == max(found.values()) and "dev" not in run, run["arm"]
    assert parts[tuning].settings["tuning_seed"] not in range(parts[name].seeds)


@pytest.mark.parametrize(
    ("tried", "name"),
    [
        (("tuning", "edges"), "small"),
        (("tuning_night",), "night"),
        (("tuning_moves",), "moves"),
        (("tuning_ultrasound",), "real_slices"),
    ],
)
def test_every_start_used_the_rate_and_share_that_won_on_dev(tried, name):
    parts, scores = record_of("05_real")["parts"], {}
    for run in (run for part in tried for run in parts[part]["runs"]):
        assert run["seed"] == 100 and not {"test", "day"} & set(run)
        scores.setdefault(run["arm"].rsplit(", lr ")[0], {})[run["lr"], run["share"]] = run["dev"]
    tuned = [run for run in parts[name]["runs"] if "zero-shot" not in run["arm"]]
    seen = {run["images_seen"] for run in tuned}
    assert tuned and min(seen) >= 0.9 * max(seen), seen  # whole epochs of 20, 60 or 367 frames
    for run in tuned:
        start = max((s for s in scores if run["arm"].startswith(s)), key=len)
        best = max(found["miou"] for found in scores[start].values())
        assert scores[start][run["lr"], run["share"]]["miou"] == best, run["arm"]


@pytest.mark.parametrize("script", ["01_half_pixel", "02_unet"])
def test_arms_that_are_compared_saw_equally_many_images(script):
    for name, part in record_of(script)["parts"].items():
        seen = {run["images_seen"] for run in part["runs"]}
        assert min(seen) > 0.95 * max(seen), (name, seen)  # whole epochs of 12 … 960 images
    seeds = [seed for split in load("01_half_pixel").SEEDS.values() for seed in split]
    assert len(seeds) == len(set(seeds))  # scenes to tune on are no others


@pytest.mark.slow
def test_samples_of_scenes_by_hand():
    """Two kinds of images, one right and one wrong: what is known of such samples."""
    script = load("04_metrics")
    right, wrong = np.array([[1, 0], [0, 1]]), np.array([[0, 1], [1, 0]])
    matrices = np.stack([right] * 50 + [wrong] * 50)[:, None]  # accuracy 1/2, mIoU 1/3
    found = script.how_sure(matrices, 100, {"samples": 200, "draws": 100}, {"frame"})
    low, high = (a / (2 - a) for a in (0.5 - 0.098, 0.5 + 0.098))  # 0.5 ± 1.96 · √(0.25 / 100)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.02)
    assert found["frame_width"] == pytest.approx(high - low, abs=0.02)
    assert 0.9 <= found["frame_holds"] <= 0.99
    # drives of eight equal frames: the width by frame is √8 times too small
    drives = np.repeat(matrices, 8, axis=1)
    by = script.how_sure(drives, 100, {"samples": 200, "draws": 50}, {"frame", "drive"})
    assert by["drive_width"] / by["frame_width"] == pytest.approx(8**0.5, rel=0.1)
    assert by["drive_holds"] >= 0.9 and by["frame_holds"] < 0.7


def test_an_area_by_hand():
    labels = torch.tensor([[[1, 1, 0], [2, 1, 0]], [[0, 0, 0], [0, 2, 1]]])
    spacing = np.array([[0.5, 0.25], [1.0, 2.0]])  # mm per row, per column
    assert load("04_metrics").area(labels, spacing).tolist() == [3 * 0.125, 2.0]


CODE = '"""Doc."""\n\ndef f(x):\n    return x + 1\n\ng = 2\n'


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    for cached in (fingerprints._index, fingerprints._definitions):
        monkeypatch.setattr(fingerprints, cached.__name__, cached.__wrapped__)
    for folder in ("seglib/losses", "experiments", "data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "seglib" / "code.py").write_text(CODE)
    (tmp_path / "data" / "a.png").write_bytes(b"\r\n1")
    (tmp_path / "data" / "b.csv").write_bytes(b"1\n2\n")
    return tmp_path


def mark(*code, **settings):
    return fingerprints.fingerprint(code, settings)


def test_a_fingerprint_sees_what_code_does_and_not_how_it_looks(repository):
    def of(text):
        (repository / "seglib" / "code.py").write_text(text)
        return mark("f g")

    first = of(CODE)
    other = '# other\ndef f(x: int) -> int:\n    "Adds."\n    return (x +\n        1)\ng = 2'
    assert of(other) == first
    assert of("def f(x):\n    return x + 2\ng = 2") != first
    assert of("def f(x):\n    return x + 1\ng = '2'") != first


def test_code_that_moves_keeps_its_fingerprint(repository):
    before = mark("f g"), mark("f", "g"), mark("seglib/*.py"), mark("code.f")
    assert before[0] == before[1] == before[2] != before[3]
    (repository / "seglib" / "code.py").unlink()
    (repository / "seglib" / "losses" / "new.py").write_text("def f(x):\n    return x + 1")
    (repository / "seglib" / "losses" / "other.py").write_text("import os\ng = 2\nh = 3")
    assert mark("f g") == before[0] and mark("new.f") == before[3]


def test_a_name_is_of_the_experiment_first_and_else_of_one_module(repository):
    assert len({mark("f"), mark("g"), mark("f g")}) == 3
    (repository / "experiments" / "01_toy.py").write_text("def f(x):\n    return x")
    with pytest.raises(ValueError, match=r"2 modules define f \(code, 01_toy\)"):
        mark("f")
    assert mark("code.f") != fingerprints.fingerprint(["f"], {}, "01_toy") == mark("01_toy.f")
    with pytest.raises(ValueError, match="0 modules define h"):
        mark("h")


def test_a_fingerprint_sees_settings_data_and_names_of_files(repository):
    marks = [mark("./data", lr=1), mark("./data", lr=2)]
    (repository / "data" / "b.csv").write_bytes(b"1\r\n2\r\n")  # as git on Windows writes it
    assert mark("./data", lr=1) == marks[0]
    (repository / "data" / "a.png").write_bytes(b"\n1")
    marks.append(mark("./data", lr=1))
    (repository / "data" / "a.png").rename(repository / "data" / "c.png")
    marks.append(mark("./data", lr=1))
    assert len(set(marks)) == 4
    with pytest.raises(FileNotFoundError, match=r"declares nothing/\*\.py"):
        mark("nothing/*.py")


@pytest.fixture(autouse=True)
def trials(tmp_path, monkeypatch):  # (and locks, else they would be in the repository)
    monkeypatch.setattr(records, "TRIALS", tmp_path / "trials")


def job_in(folder, settings=None, data=None):
    part = Part(lambda job: None, (), settings or {}, data=data or {})
    return Job("part", part, Record(folder / "00_toy.json"))


def test_what_is_done_is_not_done_again(tmp_path, capsys):
    calls = []

    def measure(value):
        calls.append(value)
        return {"test": {"miou": value}}

    for seed, value in ((0, 0.25), (0, 0.5), (1, 0.75)):
        job_in(tmp_path).once("arm", seed, measure, value)
    assert calls == [0.25, 0.75]
    said = capsys.readouterr().out
    assert "arm, seed 0: recorded already" in said and "mIoU test 0.750" in said
    content = json.loads((tmp_path / "00_toy.json").read_text())
    runs = content["parts"]["part"]["runs"]
    assert [(run["seed"], run["test"]["miou"]) for run in runs] == [(0, 0.25), (1, 0.75)]
    assert list(content["machines"]) == [runs[0]["machine"]] == [runs[1]["machine"]]
    assert {path.name for path in tmp_path.iterdir()} == {"00_toy.json", "trials"}  # no halves


def test_a_run_that_fails_frees_its_claim_and_a_damaged_record_is_named(tmp_path):
    job = job_in(tmp_path)
    job.once("arm", 0, lambda: {"value": 1})
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            job.once("arm", 1, lambda: {"value": 1 / 0})
    assert [run["seed"] for run in job.record.runs(job)] == [0]
    job.once("arm", 1, lambda: {"value": 2})
    assert [run["value"] for run in job.record.runs(job)] == [1, 2]
    (tmp_path / "00_toy.json").write_text("{")
    with pytest.raises(ValueError, match=r"00_toy\.json is no record"):
        job_in(tmp_path).once("arm", 0, dict)


def test_a_changed_fingerprint_starts_the_part_anew(tmp_path):
    for settings, seed in (({"lr": 1}, 0), ({"lr": 1}, 1), ({"lr": 2}, 0)):
        job = job_in(tmp_path, settings)
        job.once("arm", seed, lambda value=settings["lr"]: {"value": value})
    content = job.record.read()["parts"]["part"]
    assert [(run["seed"], run["value"]) for run in content["runs"]] == [(0, 2)]
    assert content["settings"] == {"lr": 2}


def test_changed_data_leave_the_arms_that_do_not_use_them(repository):
    data, both = {"Toy": "./data", "Other": "f g"}, "both Toy and Other"

    def kept(job):
        return [run["arm"] for run in job.record.runs(job)]

    job = job_in(repository, data=data)
    for arm in ("Toy", "Other", both):
        job.once(arm, 0, dict)
    (repository / "data" / "b.csv").write_bytes(b"3")
    assert kept(job) == ["Toy", "Other", both]  # a job looks once
    job = job_in(repository, data=data)
    assert kept(job) == ["Other", both]
    job.once("Toy", 0, lambda: {"value": 2})
    runs = job.record.read()["parts"]["part"]["runs"]
    found = [(run["arm"], run.get("value")) for run in runs]
    assert found == [("Other", None), (both, None), ("Toy", 2)]


def test_a_missing_data_set_is_told_once_and_is_no_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path))
    monkeypatch.setattr("seglib.util.paths.data_roots", lambda root=None: [Path(root or tmp_path)])
    job = job_in(tmp_path)
    assert job.open(CamVid, "train") is None and job.open(CamVid, "test") is None
    said = capsys.readouterr().out
    assert said.count("CamVid is not here, so what needs it is left out") == 1
    assert "python -m seglib download camvid" in said and "--root FOLDER" in said


def test_the_command_line_chooses_parts_and_keeps_trials_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "recorded")
    seen = []

    def run(job):
        for seed in job.seeds:
            job.once("arm", seed, lambda: {"images": job.settings["images"]})
        seen.append((job.name, job.settings["images"], len(job.seeds), job.root))

    parts = {name: Part(run, (), {"images": 8}, seeds) for name, seeds in (("a", 1), ("b", 2))}

    def call(*words):
        seen.clear()
        records.main("experiments/00_toy.py", "Doc.", parts, str, list(words))
        return seen

    assert call() == call("all") == [("a", 8, 1, None), ("b", 8, 2, None)]
    assert call("b", "--seeds", "1", "--root", "x") == [("b", 8, 1, "x")]
    before = (tmp_path / "recorded" / "00_toy.json").read_text()
    assert call("b", "--images", "4") == [("b", 4, 2, None)]
    assert (tmp_path / "recorded" / "00_toy.json").read_text() == before
    trial = json.loads((tmp_path / "trials" / "00_toy.json").read_text())
    assert [run["images"] for run in trial["parts"]["b"]["runs"]] == [4, 4]
    with pytest.raises(SystemExit):
        call("c")
    assert "there is no part c; choose from a, b, all" in capsys.readouterr().err


WORKER = """
import json, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import records
folder, who, mode = pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
records.TRIALS = folder / "trials"
records.describe_here = lambda: {"hardware": "abacus", "threads": 1}
part = records.Part(lambda job: None, (), {})
job = records.Job("part", part, records.Record(folder / "00_toy.json"))

def measure(seed):
    with open(folder / "measured.txt", "a") as log:
        log.write(f"{who} {seed}\\n")
    time.sleep(600 if mode == "hang" else 0.02)
    return {"by": who}

(folder / f"{who}.here").touch()
while mode == "share" and len(list(folder.glob("*.here"))) < 2:
    time.sleep(0.01)
for seed in range(1 if mode == "hang" else 15):
    job.once("arm", seed, measure, seed)
"""


def start(folder, who, mode):
    words = [sys.executable, "-c", WORKER, str(EXPERIMENTS), str(folder), who, mode]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_share_a_record_and_lose_no_run(tmp_path):
    workers = [start(tmp_path, who, "share") for who in "ab"]
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    runs = job_in(tmp_path).record.read()["parts"]["part"]["runs"]
    assert sorted(run["seed"] for run in runs) == list(range(15))
    measured = (tmp_path / "measured.txt").read_text().splitlines()
    assert sorted(measured) == sorted(f"{run['by']} {run['seed']}" for run in runs)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_a_claim_is_respected_and_ends_with_its_process(tmp_path, capsys):
    worker = start(tmp_path, "a", "hang")
    wait_for((tmp_path / "measured.txt").exists, 120)
    try:
        job = job_in(tmp_path)
        for seed in (0, 1):
            job.once("arm", seed, lambda: {"by": "me"})
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "part: arm, seed 0: another process is at it"
        assert said[1].startswith("part: arm, seed 1: ")
        assert [run["seed"] for run in job.record.runs(job)] == [1]
    finally:
        worker.kill()
        worker.wait(30)
    job.once("arm", 0, lambda: {"by": "me"})
    assert [(run["seed"], run["by"]) for run in job.record.runs(job)] == [(1, "me"), (0, "me")]


def test_the_summary_by_hand():
    runs = [{"arm": "a", "seed": n, "seconds": 90, "test": {"miou": 0.5 + n / 5}} for n in (0, 1)]
    text = records.summary_table({"parts": {"arms": {"runs": runs}, "tuning": {"runs": []}}})
    told = ["arms: 2 runs, 3 minutes", "  a: test 0.600 (0.500–0.700); 2 seeds"]
    assert text.splitlines() == [*told, "tuning: 0 runs, 0 minutes"]


def test_the_location_prior_of_two_masks_by_hand():
    first = np.array([[0, 1, 2], [255, 255, 2]], np.uint8)
    second = np.array([[0, 0, 2], [1, 255, 1]], np.uint8)
    # (0, 1): a tie of 0 and 1, the smaller; (1, 0): only one says; (1, 1): void in both, and 2 is
    # the most frequent of all (3 pixels; 0 has 3, too: the smaller); (1, 2): a tie of 1 and 2
    expected = [[0, 0, 2], [1, 0, 1]]
    assert baselines.location_prior(np.stack([first, second]), 3).tolist() == expected


def test_a_constant_is_scored_by_hand():
    masks = np.array([[[0, 0, 1, 255]], [[0, 1, 1, 255]]], np.uint8)
    scores = baselines.score(np.uint8(0), masks, 3)  # class 0: 3 of 6; class 2: absent
    assert scores.iou[:2].tolist() == [0.5, 0.0] and np.isnan(scores.iou[2])
    assert scores.miou == 0.25


def test_features_of_a_pixel_by_hand():
    images = np.zeros((2, 3, 5, 3), np.uint8)
    images[1, 2, 4] = (255, 0, 51)
    last = {"grey": [0.4], "rgb": [1, 0, 0.2], "rgb and position": [1, 0, 0.2, 1, 1]}
    for kind, expected in last.items():
        rows = baselines.features(images, kind)
        assert len(rows) == 30 and rows[-1] == pytest.approx(expected)
    assert rows[5 + 2] == pytest.approx([0, 0, 0, 0.5, 0.5])


@pytest.mark.parametrize("method", ["logistic regression", "balanced logistic regression", "mlp"])
def test_a_classifier_of_pixels_learns_what_colour_tells(method):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (20, 8, 9)).astype(np.uint8)
    images = np.eye(3, dtype=np.uint8)[masks] * 200
    masks[:, 0] = 255
    model = baselines.PixelClassifier(method, "rgb", 1000, seed=0).fit(images[:16], masks[:16])
    assert baselines.score(model.predict(images[16:]), masks[16:], 3).miou == 1
    again = baselines.PixelClassifier(method, "rgb", 1000, seed=0).fit(images[:16], masks[:16])
    assert np.array_equal(again.predict(images), model.predict(images))


def in_memory(images):
    return arms.InMemory.copy_of(Toy(images), arms.augmentation(PLAIN))


def test_data_in_memory_equals_its_origin():
    toy, data = Toy(4), in_memory(4)
    assert (len(data), data.classes, data.num_classes) == (4, toy.classes, 3)
    for i in range(4):
        assert all(np.array_equal(*pair) for pair in zip(data.read(i), toy.read(i), strict=True))
    with pytest.raises(IndexError):
        data.read(4)
    assert data[0][0].shape == (3, 16, 24)


def test_a_budget_of_images_or_seconds_is_kept_and_a_seed_repeats_itself(monkeypatch):
    (_, first), (_, again) = (
        arms.train(in_memory(6), {**TINY, "images": 13}, seed=1) for _ in range(2)
    )
    assert (first["epochs"], first["images_seen"], len(first["curve"])) == (2, 12, 2)
    assert first["curve"] == again["curve"]
    monkeypatch.setattr(arms, "speed", lambda data, settings: 10.0)
    _, budget = arms.train(in_memory(6), {**TINY, "seconds": 2}, seed=0)
    assert budget["epochs"] == 3  # 19.4 images, of 6 each


def test_scores_of_groups_add_up():
    data = Toy(5, eval_transform(16, 24))
    data.groups = ("a", "b", "a", "b", "b")
    model, _ = arms.train(in_memory(6), {**TINY, "images": 6}, seed=0)
    whole = arms.scores_on(model, data, by_group=True)
    assert whole["images"] == 5 and set(whole["groups"]) == {"a", "b"}
    expected = evaluate(model, arms.make_loader(data, 5))
    assert whole["miou"] == pytest.approx(expected.miou, abs=1e-4)


def test_scenes_are_rendered_once_for_each_renderer(tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "ROOT", tmp_path)
    settings = {"first_seed": 7, "scenes": 2, "scene_size": [48, 64], "light": "day"}
    first = arms.rendered_streets(settings, None)
    assert first.images.shape == (2, 48, 64, 3)
    expected = arms.RenderedStreets([7, 8], 48, 64, light="day")
    assert all(np.array_equal(*pair) for pair in zip(first.read(1), expected.read(1), strict=True))
    with monkeypatch.context() as patch:
        patch.setattr(arms.InMemory, "copy_of", None)  # now it must come from disk
        assert np.array_equal(arms.rendered_streets(settings, None).masks, first.masks)
    monkeypatch.setattr(arms, "fingerprint", lambda *_: "another")
    arms.rendered_streets(settings, None)
    names = [path.name for path in (tmp_path / "runs" / "scenes").iterdir()]
    assert names == ["day_48x64_7_2_another.npz"]


def test_shares_count_void_and_images():
    # Toy: 24×32, 64 void pixels, a box of 12×16 of which 32 pixels are stripe; void may hide some
    found = load("00_data").count(arms.InMemory.copy_of(Toy(3)))
    assert found["images"] == 3 and found["void"] == pytest.approx(64 / 768, abs=1e-5)
    assert sum(found["share"].values()) + found["void"] == pytest.approx(1, abs=1e-4)
    assert found["images_with"] == {"ground": 1.0, "box": 1.0, "stripe": 1.0}


def test_both_data_sets_get_equally_many_steps():
    settings = load("00_data").PARTS["same_steps"].settings
    size = settings["batch_size"]
    assert all(settings["images"] % (images // size * size) == 0 for images in (367, 240))


def test_vessel_is_scored_against_all_else(monkeypatch):
    data_script = load("00_data")
    matrix = np.array([[50, 4, 6], [3, 10, 2], [1, 7, 8]])  # rows background, nerve, vessel
    monkeypatch.setattr(data_script, "evaluate", lambda *_: SimpleNamespace(matrix=matrix))
    monkeypatch.setattr(data_script, "make_loader", lambda *_: None)
    real = Toy(40)
    real.classes = ("background", "nerve", "vessel")
    found = data_script.on_ultrasound(lambda seed: (None, {}), real, 0)["test"]
    assert found["iou"] == {"other": round(67 / 83, 4), "vessel": round(8 / 24, 4)}
