"""The moving average of the weights: its formula, and that it is what is evaluated and kept."""

import pytest
import torch
from accidents import same_weights
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toys import Toy, loader, plain_loop, tiny_loaders, tiny_model, tiny_run

from seglib.engine.checkpoints import load_checkpoint
from seglib.engine.state import MovingAverage
from seglib.losses import CrossEntropyLoss
from seglib.models import create_model
from seglib.training import evaluate, fit


def test_the_average_of_weights_and_statistics_is_that_of_the_formula():
    average = {}

    def follow(model):
        for name, value in model.state_dict().items():
            now = value.detach().double()
            average[name] = 0.8 * average.get(name, now) + 0.2 * now

    plain_loop(tiny_model(), CrossEntropyLoss(), follow=follow)
    model, _ = tiny_run(None, ema=0.8, channels_last=False)  # (else dropout draws others)
    compared = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    assert {"0.weight", "1.running_mean", "1.running_var"} <= set(compared)
    for name, value in compared.items():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-7)
    plain, _ = tiny_run(None)
    assert not torch.equal(plain[0].weight, model[0].weight)
    assert not torch.equal(plain[1].running_mean, model[1].running_mean)


def test_the_average_is_that_of_torch():
    """To the last bit, whole numbers too; ours only counts elsewhere."""
    model = tiny_model()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    ours = MovingAverage(model, 0.7)
    for step in range(4):
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                value.add_(step + 1)
        ours.update_parameters(model)
        theirs.update_parameters(model)
        assert same_weights(ours.module.state_dict(), theirs.module.state_dict())
    assert int(ours.n_averaged) == 4 and ours.n_averaged.device.type == "cpu"


def test_the_average_is_evaluated_and_saved_and_the_model_ends_with_it(tmp_path):
    val = tiny_loaders()[1]
    model, history = tiny_run(tmp_path, ema=0.9)
    assert evaluate(model, val).miou == history.rows[-1]["val_miou"]
    last = load_checkpoint(tmp_path / "last.pt", tiny_model())
    assert same_weights(last.model.state_dict(), model.state_dict())
    best = load_checkpoint(tmp_path / "best.pt", tiny_model()).model
    assert evaluate(best, val).miou == history.best["val_miou"]
    plain, _ = tiny_run(None)  # averaging does not disturb training
    assert same_weights(last.training["trained"], plain.state_dict())


def test_a_frozen_backbone_is_averaged_as_it_is():
    model = create_model("fcn32s", 3, backbone="mobilenet_v3_small")
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    batches = loader(4, 2, Toy, 32, 48, shuffle=True)
    fit(model, batches, epochs=1, lr=0.01, freeze_epochs=1, ema=0.5)
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ema", [0, 1, 1.5, -1])
def test_a_decay_out_of_range_is_refused(ema):
    with pytest.raises(ValueError, match=f"found ema={ema}, expected a number between 0 and 1"):
        tiny_run(None, ema=ema)
