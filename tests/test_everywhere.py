"""Another processor, simulated: what jitter.py changes and what it leaves alone; what is found."""

import json

import everywhere
import jitter
import nbformat
import notebook_copies
import pytest
import torch
from everywhere import TESTS, WORLDS
from nbformat.v4 import new_code_cell, new_notebook
from torch import nn


def numbers():
    return torch.randn(4, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("strength", [1e-3, 1e-6])
def test_noise_is_uniform_relative_and_a_function_of_the_number(strength):
    x = numbers()
    found = jitter.noisy(x, strength, seed=1)
    off = (found.double() / x.double() - 1) / strength
    assert off.abs().max() <= 1 + 2**-23 / strength  # two roundings, each of half a step
    assert abs(off.mean()) < 0.02 and off.std() == pytest.approx(3**-0.5, abs=0.02)
    assert torch.equal(found[1:2, 3:9], jitter.noisy(x[1:2, 3:9], strength, seed=1))
    other = (jitter.noisy(x, strength, seed=2).double() / x.double() - 1) / strength
    assert torch.corrcoef(torch.stack([off.flatten(), other.flatten()]))[0, 1].abs() < 0.02


def test_what_is_exact_stays_exact():
    x = torch.tensor([0.0, -0.0, 1.0, -3.0, 0.5, 1 / 4096, 172_800.0, float("inf")])
    assert torch.equal(jitter.noisy(x, 1e-3, seed=1), x)
    assert jitter.noisy(torch.tensor(float("nan")), 1e-3, seed=1).isnan()
    for kept in (torch.arange(5), torch.rand(5, dtype=torch.float64), torch.rand(5) > 0.5):
        assert jitter.noisy(kept, 1e-3, seed=1) is kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_moves_by_steps_of_its_format(dtype):
    x = numbers().to(dtype)
    found = jitter.noisy(x, 1e-9, seed=1)
    moved = ((found.float() - x.float()) / x.float()).abs()
    assert found.dtype == dtype and moved.max() <= 1.5 * torch.finfo(dtype).eps
    assert 0.1 < (moved > 0).float().mean() < 0.9


def test_convolutions_and_sums_are_off_and_autograd_keeps_what_it_kept():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 8, 3), torch.randn(2, 3, 12, 16)

    def kept():
        sizes = []
        note = lambda t: sizes.append(t.shape) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            found = layer(x).exp()
        return sizes, found.detach()

    before, exact = kept()
    with jitter.Jitter(seed=1, convolution=1e-3, rounding=1e-6):
        after, found = kept()
        total = numbers().sum()
    assert before == after
    assert 1e-4 < ((found - exact) / exact).abs().max() < 1e-2
    assert 0 < abs(total - numbers().sum()) < 2e-6 * numbers().sum().abs()


def test_gradients_are_off_at_the_optimisers_step(monkeypatch):
    hooks = []
    monkeypatch.setattr(jitter, "register_optimizer_step_pre_hook", hooks.append)
    jitter.install(seed=1, gradient=1e-3)
    weight, gradient = nn.Parameter(torch.full((1000,), 0.3)), torch.linspace(0.1, 1, 1000)
    (weight * gradient).sum().backward()
    hooks[0](torch.optim.SGD([weight], lr=1.0))
    assert 5e-4 < (weight.grad / gradient - 1).abs().max() < 2e-3


TRAINS = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
images, target = torch.randn(4, 3, 16, 16), torch.randint(0, 2, (4, 12, 12))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(20):
    loss = nn.functional.cross_entropy(net(images), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
KEEPS = "import os\nassert loss.item() < 0.7\nprint('fallen, in', os.path.basename(os.getcwd()))"
BREAKS = "print(f'{loss.item():.6f}')"  # what the rule forbids


@pytest.mark.slow
def test_a_world_finds_a_trained_loss_that_is_printed_to_six_digits(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(source) for source in (TRAINS, KEEPS, BREAKS)])
    path = tmp_path / "extra" / "07_broken.ipynb"
    path.parent.mkdir()
    everywhere.commands.client(notebook, path.parent).execute()  # this processor's outputs
    assert notebook.cells[1].outputs[0].text == "fallen, in extra\n"
    nbformat.write(notebook, path)
    assert everywhere.run(WORLDS["here"], ["notebooks"], [path], 1) == {}
    found = everywhere.run(WORLDS["jitter-1"], ["notebooks"], [path], 1)
    assert list(found) == ["07_broken [3]"]


def test_every_world_is_complete():
    names = [name for world in WORLDS.values() for name in world.environ]
    assert {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES"} <= set(names)
    assert {world.threads for world in WORLDS.values()} == {1, 2}
    assert sum("gradient" in world.inside for world in WORLDS.values()) >= 3
    for name in (*everywhere.PLUMBING, *everywhere.PROCESSES):
        assert (TESTS / name.split("::")[0]).is_file(), name
    with pytest.raises(everywhere.commands.Trouble, match="no world avx3; there are: here, here-2"):
        everywhere.main(["--worlds", "avx3"])


def test_kernels_get_their_start_up_file_and_others_do_not(tmp_path):
    environ = everywhere.environment(WORLDS["jitter-1"], tmp_path)
    startup = tmp_path / "profile_default" / "startup" / "00_world.py"
    assert environ["IPYTHONDIR"] == str(tmp_path) and environ["OMP_NUM_THREADS"] == "1"
    assert json.loads(environ["SEGLIB_WORLD"])["seed"] == 1
    compile(startup.read_text(encoding="utf-8"), "startup", "exec")
    plain = everywhere.environment(WORLDS["avx2-2"], tmp_path / "none")
    assert "SEGLIB_WORLD" not in plain and not (tmp_path / "none").exists()
    assert (plain["ATEN_CPU_CAPABILITY"], plain["OMP_NUM_THREADS"]) == ("avx2", "2")


REPORT = """<testsuites><testsuite>
<testcase classname="notebooks.06_amp.ipynb" name="notebooks/06_amp.ipynb::Cell 6">
<failure message="x">- 0.1%
+ 0.2%</failure></testcase>
<testcase classname="tests.test_losses" name="test_dice"><error message="E   boom"/></testcase>
<testcase classname="tests.test_losses" name="test_fine"/>
</testsuite></testsuites>"""


def test_a_report_is_read_and_the_table_names_what_differs_where(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT, encoding="utf-8")
    found = everywhere.differences(tmp_path / "report.xml")
    assert found == {"06_amp [7]": "- 0.1% / + 0.2%", "test_losses::test_dice": "E   boom"}
    assert everywhere.differences(tmp_path / "none.xml") == {"(pytest)": "wrote no report"}
    lines = everywhere.table({"here": {}, "avx2": found}).splitlines()
    assert lines[2] == "| 06_amp [7] | · | differs |"
    assert lines[-1].startswith("- avx2, test_losses::test_dice: ")
    assert "nothing differs" in everywhere.table({"here": {}})


def test_copies_that_passed_in_every_world_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook_copies, "VERIFIED", tmp_path / "verified.json")
    paths = everywhere.commands.lessons(["02", "03"])
    assert notebook_copies.changed(paths) == ["02", "03"]
    worlds = {world.name: {} for world in WORLDS.values() if "copies" in world.parts}
    fewer = {name: {} for name in list(worlds)[1:]}
    everywhere.note_verified(fewer, paths, ["copies"])
    everywhere.note_verified(worlds, paths, ["notebooks"])
    assert notebook_copies.changed(paths) == ["02", "03"]
    worlds["avx2"] = {"test_notebook_copies.TestLesson03::test_with": "differs"}
    everywhere.note_verified(worlds, [*paths, tmp_path / "extra" / "02_more.ipynb"], ["copies"])
    assert notebook_copies.changed(paths) == ["03"]


def test_a_changed_cell_output_or_exercise_makes_a_lesson_new(tmp_path, monkeypatch):
    monkeypatch.setattr(everywhere.commands, "ROOT", tmp_path)
    for folder in ("seglib/exercises", "tests/exercises"):
        (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / "07_sums.ipynb"

    def digest(source="1 + 1", judge="pass"):
        nbformat.write(new_notebook(cells=[new_code_cell(source, id="a")]), path)
        (tmp_path / "seglib" / "exercises" / "lesson07.py").write_text(judge)
        (tmp_path / "seglib" / "exercises" / "lesson08.py").write_text(source)
        return notebook_copies.digest(path)

    assert digest() == digest() and len({digest(), digest("1 + 2"), digest(judge="x")}) == 3
