"""What checkpoints hold, whatever they are given; and what is said of what they cannot hold."""

import enum
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accidents import same_weights
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import ConcatDataset, Subset
from toys import Toy, small_unet, tiny_model, tiny_run

from seglib.data import FolderDataset, make_loader
from seglib.engine import artifacts
from seglib.engine.checkpoints import DataSpec, load_checkpoint, load_model, save_checkpoint
from seglib.engine.normalisation import normalisation
from seglib.engine.plain import plain
from seglib.inference import predict
from seglib.losses import CrossEntropyLoss
from seglib.models import create_model
from seglib.training import fit
from seglib.transforms import IMAGENET_MEAN, eval_transform
from seglib.util.files import atomic_write


class Kind(enum.IntEnum):
    A = 3


VALUES = [  # what is handed over, what comes back
    (np.float64(0.5), 0.5),
    (np.float32(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.uint8(7), 7),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (np.complex64(1j), 1j),
    (np.array([1, 2]), [1, 2]),
    (np.array([[0.5]]), [[0.5]]),
    (np.array([Path("a"), None]), ["a", None]),
    (np.array(3), 3),
    (Path("a"), "a"),
    pytest.param({"b", "a"}, ("a", "b"), id="a set of two"),  # (whose repr has no fixed order)
    (frozenset({2, 1}), (1, 2)),
    (range(2), [0, 1]),
    (Kind.A, 3),
    ({np.int64(255): np.int64(1)}, {255: 1}),
    ((1, [Path("a")]), (1, ["a"])),
    (torch.Size([2, 3]), (2, 3)),
    (torch.float32, torch.float32),
]


@pytest.mark.parametrize(("given", "expected"), VALUES, ids=repr)
def test_values_become_plain_and_come_back(tmp_path, given, expected):
    save_checkpoint(tmp_path / "a.pt", tiny_model(), training={"x": given})
    found = torch.load(tmp_path / "a.pt", weights_only=True)["training"]["x"]
    assert found == expected and type(found) is type(expected)
    assert plain(torch.tensor([0.5, 2]), "", tensors=False) == [0.5, 2]


def test_a_run_of_numpy_values_is_read_and_resumed(tmp_path):
    images = np.stack([Toy(4).read(i)[0] for i in range(4)]) / 255
    mean, std = images.mean((0, 1, 2)), images.std((0, 1, 2))
    data = Toy(4, eval_transform(24, 32, mean, std))
    data.classes = np.unique(["a", "b", "c"])
    model = create_model("unet", np.max(data.read(0)[1][:-2]) + 1, base_channels=4, depth=1)

    def run(**more):
        how = {"lr": np.logspace(-3, -2, 2)[0], "clip": np.float32(1), "ema": np.float64(0.5)}
        how |= {"config": {"of": Path("a"), "at": np.arange(2), "in": {"x"}, "w": torch.ones(2)}}
        fit(model, make_loader(data, 2), out=tmp_path, **how, **more)

    run(epochs=np.int64(1))
    run(epochs=1, resume=True)  # (the settings are the same)
    found = load_checkpoint(tmp_path / "best.pt")
    assert same_weights(found.model.state_dict(), model.state_dict())
    assert found.data.mean == tuple(mean.tolist()) and found.data.classes == ("a", "b", "c")
    assert load_model(tmp_path / "last.pt").num_classes == 3


def test_what_cannot_be_saved_is_refused_before_the_first_step(tmp_path):
    class Calls(CrossEntropyLoss):
        def forward(self, *_):
            raise AssertionError("a step was made")

    options = tiny_model()
    options.options = {"norm": print}
    for model, config in ((tiny_model(), {"f": print}), (options, {})):
        with pytest.raises(ValueError, match="is <built-in function print>, of a kind that"):
            tiny_run(tmp_path / "run", model=model, loss=Calls(), config=config)
    assert not (tmp_path / "run").exists()


def test_the_names_of_weights_are_bare_on_both_sides(tmp_path):
    def around(model):
        inner = small_unet()
        inner.head = torch.compile(inner.head)
        inner.load_state_dict(
            dict(zip(inner.state_dict(), model.state_dict().values(), strict=True))
        )
        return torch.compile(model), nn.DataParallel(model), nn.DataParallel(inner), inner

    model = small_unet()
    for wrapped in around(model):
        save_checkpoint(tmp_path / "a.pt", wrapped)
        content = torch.load(tmp_path / "a.pt", weights_only=True)
        assert same_weights(content["state"], model.state_dict()) and content["model"] == "unet"
        assert same_weights(load_model(tmp_path / "a.pt").state_dict(), model.state_dict())
        content["state"] = wrapped.state_dict()  # as files of before have them
        torch.save(content, tmp_path / "old.pt")
        for name in ("a.pt", "old.pt"):
            for target in (small_unet(), *around(small_unet())):
                nn.init.zeros_(next(target.parameters()))
                load_model(tmp_path / name, target)
                assert same_weights(
                    dict(zip(model.state_dict(), target.state_dict().values(), strict=True)),
                    model.state_dict(),
                )
    average = AveragedModel(tiny_model())  # whose `module.` is a name of its own
    save_checkpoint(tmp_path / "a.pt", average)
    load_model(tmp_path / "a.pt", AveragedModel(tiny_model()))


def test_a_wrapped_model_is_trained_and_resumed(tmp_path):
    expected, _ = tiny_run(None)
    model = nn.DataParallel(tiny_model())
    tiny_run(tmp_path, model=model, epochs=2)
    assert same_weights(
        load_model(tmp_path / "last.pt", tiny_model()).state_dict(), expected.state_dict()
    )


def test_a_list_of_unlike_tensors_is_short(tmp_path):
    save_checkpoint(tmp_path / "a.pt", nn.Sequential(*[nn.Linear(1, 1) for _ in range(500)]))
    with pytest.raises(ValueError, match=r"500 missing \(0\.0\.weight, .*…\), 1000 left") as caught:
        load_model(tmp_path / "a.pt", nn.Sequential(*[nn.Sequential(nn.Linear(1, 1, False))] * 500))
    assert len(str(caught.value)) < 350
    with pytest.raises(ValueError, match=r"2 of another shape \(0.weight \(1, 1\) for \(3, 2\), "):
        load_model(tmp_path / "a.pt", nn.Sequential(nn.Linear(2, 3)))


class Own:
    """A reader's own transform, and with `mean` one that tells its own."""

    def __call__(self, image, mask):
        return torch.from_numpy(image / 255).permute(2, 0, 1).float(), torch.from_numpy(mask).long()


class Joined:
    """Gives a Subset a transform, as tutorials do."""

    def __init__(self, dataset, transform):
        self.dataset, self.transform = dataset, transform


HALF = (0.5, 0.5, 0.5)


def test_what_is_unknown_of_the_data_is_not_claimed(tmp_path):
    ours, own, told = eval_transform(24, 32, HALF, HALF), Own(), Own()
    told.mean, told.std = torch.tensor(HALF), list(HALF)
    for data, mean in (
        (Toy(2, ours), HALF),
        (Toy(2, own), None),
        (Toy(2), None),
        (Toy(2, told), HALF),
        (Toy(2, SimpleNamespace(mean=print, std=3)), None),
        (Subset(Toy(2, ours), [0]), HALF),
        (Joined(Subset(Toy(2), [0]), ours), HALF),
        (Joined(Subset(Toy(2, ours), [0]), own), None),
        (ConcatDataset([Toy(2, ours), Subset(Toy(2, ours), [1])]), HALF),
        (ConcatDataset([Toy(2, ours), Toy(2, own)]), None),
        (None, None),
    ):
        found = DataSpec.of(data)
        assert found.mean == mean
        assert found.classes == (() if data is None else Toy.classes)
        save_checkpoint(tmp_path / "a.pt", tiny_model(), found)
        assert load_checkpoint(tmp_path / "a.pt", tiny_model()).data == found
    assert DataSpec.of(Toy(2, ours)).std == HALF and DataSpec.of(Toy(2, ours)).size == (24, 32)
    save_checkpoint(tmp_path / "a.pt", tiny_model())
    assert load_checkpoint(tmp_path / "a.pt", tiny_model()).data == DataSpec()


def test_a_model_learns_its_normalisation_unless_it_has_names_of_its_own(tmp_path):
    half = (0.5,) * 3
    save_checkpoint(tmp_path / "a.pt", tiny_model(), DataSpec(mean=half, std=half))
    assert normalisation(load_model(tmp_path / "a.pt", tiny_model())) == (half, half)
    model = tiny_model()
    model.register_buffer("mean", torch.zeros(3), persistent=False)  # (it normalises inside)
    loaded = load_model(tmp_path / "a.pt", model)
    assert loaded.mean.equal(torch.zeros(3)) and normalisation(loaded)[0] == IMAGENET_MEAN
    with pytest.raises(ValueError, match="pass mean and std"):
        predict(loaded, np.zeros((8, 8, 3), np.uint8), mean="imagenet")


def test_label_map_and_the_key_of_coloured_masks_travel(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.png").touch()
    key = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)  # the last is void
    folders = tmp_path / "images", tmp_path / "masks"
    data = FolderDataset(*folders, ["a", "b"], palette=key, label_map={np.int64(2): 255})
    save_checkpoint(tmp_path / "a.pt", tiny_model(), DataSpec.of(data))
    found = load_checkpoint(tmp_path / "a.pt", tiny_model()).data
    assert found.label_map == {2: 255} and found.mask_palette == tuple(map(tuple, key.tolist()))
    assert found.palette == found.mask_palette[:2]
    assert DataSpec.of(FolderDataset(*folders, ["a", "b"])).mask_palette == ()
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["label_map"], content["mask_palette"]  # as older files
    torch.save(content, tmp_path / "old.pt")
    old = load_checkpoint(tmp_path / "old.pt", tiny_model()).data
    assert old.label_map == {} and old.mask_palette == () and old.palette == found.palette


def test_threads_may_write_the_same_file(tmp_path):
    errors, start = [], threading.Barrier(4)

    def write(number):
        start.wait()
        for _ in range(50):
            try:
                with atomic_write(tmp_path / "a.txt") as temporary:
                    temporary.write_text(str(number) * 1000)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = (tmp_path / "a.txt").read_text()
    assert not errors and len(text) == 1000 and len(set(text)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_machine_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert artifacts.revision().startswith("version 0")
    artifacts.write_description(
        tmp_path, {"lr": np.float64(1), "root": tmp_path}, torch.device("cpu")
    )
    assert '"lr": 1.0' in (tmp_path / "run.json").read_text()
