"""Where things are computed."""

from __future__ import annotations

import pytest
import torch

from mneme.models import device


class Recorder(torch.nn.Linear):
    """Writes down where it is sent, and stays."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.sent: list[str] = []

    def to(self, where: torch.device) -> Recorder:
        self.sent.append(str(where))
        return self


@pytest.mark.parametrize(("there", "sent"), [("cuda", ["cuda", "cpu"]), ("cpu", [])])
def test_a_module_comes_back_from_the_gpu_whatever_happens_there(there, sent, monkeypatch):
    monkeypatch.setattr(device, "pick_device", lambda wanted: torch.device(there))
    module = Recorder()
    with pytest.raises(KeyError), device.on_gpu(module):
        assert module.sent == sent[:1]
        raise KeyError
    assert module.sent == sent
