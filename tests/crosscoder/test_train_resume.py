"""Training that is stopped, however it is stopped, goes on and ends with the same weights, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch
from crosscoder_world import planted
from damage import flip

from mneme._util.errors import ActivationError, CrosscoderError
from mneme.crosscoder import CrosscoderConfig, train_crosscoder, trainer
from mneme.crosscoder.start import FIRST_PASS

pytestmark = pytest.mark.bf16
CONFIG = CrosscoderConfig(n_latents=48, k=3, batch_size=64, epochs=6, log_every=5, checkpoint_every=4)


class StoppedError(Exception):
    pass


class StopsAfter:
    """Activations whose reading fails after so many batches of training."""

    def __init__(self, x: torch.Tensor, batches: int) -> None:
        self.x, self.left = x, batches
        self.n, self.width = len(x), x.shape[2]

    def batches(self, size, *, shuffle=False, seed=0):
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        for rows in (order if shuffle else torch.arange(self.n)).split(size):
            if shuffle and size == CONFIG.batch_size and seed < FIRST_PASS:
                self.left -= 1
                if self.left < 0:
                    raise StoppedError
            yield self.x[rows]


def same_weights(a, b) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("stop", [3, 17, 41])
def test_training_stopped_at_any_step_goes_on_to_the_same_weights(tmp_path, stop):
    x, rows, again = planted(), [], []
    whole = train_crosscoder(x, CONFIG, log=rows.append)
    with pytest.raises(StoppedError):
        train_crosscoder(StopsAfter(x, stop), CONFIG, checkpoint=tmp_path)
    resumed = train_crosscoder(x, CONFIG, checkpoint=tmp_path, log=again.append)
    assert same_weights(whole, resumed)
    assert again[-1] == rows[-1]


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    x = planted()
    torch.save(x, tmp_path / "x.pt")
    script = (
        "import os, sys, torch; from mneme.crosscoder import CrosscoderConfig, train_crosscoder\n"
        "def log(row):\n"
        "    if os.path.exists(sys.argv[1] + '/checkpoint.pt'):\n"
        "        print('there', flush=True)\n"
        "        sys.stdin.read()  # until it is killed\n"
        f"config = {CONFIG!r}\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "train_crosscoder(torch.load(sys.argv[1] + '/x.pt'), config, checkpoint=sys.argv[1], log=log)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(torch.get_num_threads())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL and (tmp_path / "checkpoint.pt").exists()
    assert same_weights(train_crosscoder(x, CONFIG, checkpoint=tmp_path), train_crosscoder(x, CONFIG))


def test_ctrl_c_writes_a_checkpoint_first(tmp_path):
    def interrupt(row):
        os.kill(os.getpid(), signal.SIGINT)

    config = CrosscoderConfig(**{**vars(CONFIG), "checkpoint_every": 1000})
    with pytest.raises(KeyboardInterrupt):
        train_crosscoder(planted(), config, checkpoint=tmp_path, log=interrupt)
    assert (tmp_path / "checkpoint.pt").exists()
    resumed = train_crosscoder(planted(), config, checkpoint=tmp_path)
    assert same_weights(resumed, train_crosscoder(planted(), config))


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(tmp_path):
    x = planted()
    with pytest.raises(StoppedError):
        train_crosscoder(StopsAfter(x, 9), CONFIG, checkpoint=tmp_path)
    other = CrosscoderConfig(**{**vars(CONFIG), "k": 4})
    assert same_weights(train_crosscoder(x, other, checkpoint=tmp_path), train_crosscoder(x, other))


def test_a_damaged_checkpoint_names_the_fix(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(CrosscoderError, match="delete it"):
        train_crosscoder(planted(), CONFIG, checkpoint=tmp_path)


def test_a_flipped_byte_in_a_checkpoint_is_no_state_to_go_on_from(tmp_path):
    with pytest.raises(StoppedError):
        train_crosscoder(StopsAfter(planted(), 9), CONFIG, checkpoint=tmp_path)
    flip(tmp_path / "checkpoint.pt")
    with pytest.raises(CrosscoderError, match="damaged: delete it"):
        train_crosscoder(planted(), CONFIG, checkpoint=tmp_path)


def test_a_loss_that_turns_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    """At step 14 of 60; the checkpoint of step 12 is whole, and training goes on from it to the same end."""
    calls, step = [], trainer.training_step

    def turns_nan(*args, **kwargs):
        calls.append(1)
        found = step(*args, **kwargs)
        return found._replace(loss=found.loss * float("nan")) if len(calls) == 14 else found

    with (
        monkeypatch.context() as patch,
        pytest.raises(CrosscoderError, match=r"turned nan at step 13: lower crosscoder\.learning_rate"),
    ):
        patch.setattr(trainer, "training_step", turns_nan)
        train_crosscoder(planted(), CONFIG, checkpoint=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt")["state"]
    assert state["step"] == 12
    assert all(bool(torch.isfinite(part).all()) for part in state["weights"])
    resumed = train_crosscoder(planted(), CONFIG, checkpoint=tmp_path)
    assert same_weights(resumed, train_crosscoder(planted(), CONFIG))


def test_a_learning_rate_that_diverges_is_named(tmp_path, monkeypatch):
    # No few steps diverge at a rate that is in bounds.
    monkeypatch.setattr("mneme.crosscoder.trainer.Trainer._rate_share", lambda trainer: 1e30)
    with pytest.raises(CrosscoderError, match="learning_rate"):
        train_crosscoder(planted(), CONFIG, checkpoint=tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(value):
    x = planted()
    x[100, 1, 3] = value
    with pytest.raises(ActivationError, match="NaN"):
        train_crosscoder(x, CONFIG)


def test_training_recovers_planted_directions():
    x = planted(n=4096)
    rows = []
    config = CrosscoderConfig(
        n_latents=48, k=3, batch_size=256, epochs=20, learning_rate=3e-3, encoder_dtype="float32"
    )
    model = train_crosscoder(x, config, log=rows.append)
    assert rows[-1]["explained_variance_base"] > 0.85
    assert rows[-1]["explained_variance_tuned"] > 0.85
    # The threshold of inference keeps about as many latents per token as training did.
    l0 = len(model.encode_sparse(x).row) / len(x)
    assert abs(l0 - rows[-1]["l0"]) < 0.1 * rows[-1]["l0"]
    recovered = model(x)
    explained = 1 - (x - recovered).square().sum((0, 2)) / (x - x.mean(0)).square().sum((0, 2))
    assert float(explained.min()) > 0.85


def test_batches_in_a_list_train_as_their_tensor_does():
    x = planted()
    assert same_weights(train_crosscoder(list(x.split(100)), CONFIG), train_crosscoder(x, CONFIG))
