"""A text of one's own through a run: the numbers are the run's own, and the worker loses no request."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import changed_in_layer, save, tiny_llama

from mneme._util.errors import ModelError, UserError
from mneme.attribution.scaling import latent_scaling
from mneme.probe.chat import read_chat
from mneme.probe.job_files import JobFiles
from mneme.probe.probe import MAX_TOKENS, Prober
from mneme.store.run import Run

TEXT = "the cat sat on a mat river cell gene war king code"


@pytest.fixture(scope="module")
def prober(whole_run: Run) -> Prober:
    return Prober.of_run(whole_run.path)


def test_what_models_hold_averages_to_latent_scaling(prober: Prober) -> None:
    found = prober.read(TEXT)
    ids = torch.tensor([prober.ids(TEXT)])
    out = prober.reader.read(ids, logits=False)
    x = torch.stack([out.base[0], out.tuned[0]], dim=1).float()
    scaling = latent_scaling(prober.crosscoder, x[~torch.tensor(found.left_out)]).set_index("latent")
    latent, f = np.array(found.latent), np.array(found.activation)
    assert len(latent)
    for j in np.unique(latent):
        mine = latent == j
        for model, held in (("base", found.held_base), ("tuned", found.held_tuned)):
            beta = (f[mine] * np.array(held)[mine]).sum() / (f[mine] ** 2).sum()
            assert beta == pytest.approx(scaling.loc[j, f"beta_{model}"], rel=2e-3, abs=2e-3)


def test_codes_are_those_of_the_harvest(prober: Prober, whole_run: Run) -> None:
    """A document read again fires the latents that the run's contexts show, as strongly."""
    row = whole_run.sql(
        "SELECT * FROM contexts WHERE quantile = 0 AND start = 0 ORDER BY latent LIMIT 1"
    ).iloc[0]
    found = prober.read("".join(row["tokens"]))
    at = row["position"] + (found.left_out[0])
    pairs = zip(found.row, found.latent, found.activation, strict=True)
    values = [f for r, j, f in pairs if (r, j) == (at, row["latent"])]
    assert values == pytest.approx([max(row["activations"])], rel=0.03)


def test_predictions_are_of_the_next_token(prober: Prober) -> None:
    found = prober.read(TEXT)
    ids = torch.tensor([prober.ids(TEXT)])
    for model, nll in ((prober.pair.base, found.nll_base), (prober.pair.tuned, found.nll_tuned)):
        log_p = model._module(ids).logits[0].float().log_softmax(-1)
        expected = -log_p[:-1].gather(1, ids[0, 1:, None])[:, 0]
        assert nll[:-1] == pytest.approx(expected.tolist(), rel=1e-3) and nll[-1] is None
    assert len(found.tokens) == ids.shape[1] and "".join(found.tokens[1:]) == TEXT


def test_models_that_changed_since_are_not_read_with_the_old_dictionary(
    whole_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole_run.path, tmp_path / "run"))
    file = folder / "run.toml"
    base = str(whole_run.info()["base"])
    trained = save(changed_in_layer(tiny_llama(), 3, by=0.5), tmp_path / "tuned")
    text = file.read_text()
    tuned = str(whole_run.info()["tuned"])
    assert base in text and tuned in text
    file.write_text(text.replace(f'tuned = "{tuned}"', f'tuned = "{trained}"'))
    with pytest.raises(ModelError, match="have changed since"):
        Prober.of_run(folder)


def test_models_are_read_in_the_run_s_precision_whatever_this_machine_prefers(
    prober: Prober, whole_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = prober.pair.base._module.dtype
    monkeypatch.setenv("MNEME_BFLOAT16", "off" if dtype == torch.bfloat16 else "on")
    assert Prober.of_run(whole_run.path).pair.base._module.dtype == dtype


def test_texts_that_cannot_be_read_are_refused_in_one_line(prober: Prober) -> None:
    with pytest.raises(UserError, match="empty"):
        prober.read("  ")
    with pytest.raises(UserError, match="shorten"):
        prober.read("a" * (MAX_TOKENS + 1))
    with pytest.raises(ModelError, match="no chat template"):
        prober.read("User: hello", chat=True)


def test_a_chat_is_rendered_with_the_template(prober: Prober) -> None:
    assert [t["role"] for t in read_chat("System: be brief\nUser: a: b\nand c\nAssistant: d")] == [
        "system",
        "user",
        "assistant",
    ]
    assert read_chat("no speaker") == [{"role": "user", "content": "no speaker"}]
    tokenizer = prober.pair.tokenizer
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    try:
        assert "".join(prober.read("User: hi", chat=True).tokens[1:]) == "[user]hi[assistant]"
    finally:
        tokenizer.chat_template = None


def test_a_worker_answers_goes_on_after_errors_and_ends(
    whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run.path, run, ignore=shutil.ignore_patterns("activations", "codes", "probe"))
    monkeypatch.setenv("MNEME_PROBE_IDLE", "3")
    job_files = JobFiles(run)
    bad, good, withdrawn = job_files.ask("b" * 2000), job_files.ask(TEXT), job_files.ask("never mind")
    job_files.cancel(withdrawn)
    assert [r.id for r in job_files.waiting()] == [bad, good]
    job_files.start_worker()
    job_files.start_worker()  # one is enough
    deadline = time.monotonic() + 120
    while job_files.answer(good) is None or job_files.worker() is not None:
        assert time.monotonic() < deadline, job_files.last_words()
        time.sleep(0.1)
    assert "shorten" in job_files.answer(bad)["error"]
    assert job_files.answer(good)["tokens"][1] == "t" and job_files.answer(withdrawn) is None
    assert job_files.ask(TEXT) == good and not job_files.waiting(), "the same text is answered already"
    assert job_files.asked(good).text == TEXT
    os.utime(run / "crosscoder" / "model.safetensors")
    assert job_files.ask(TEXT) != good, "another dictionary is asked again"
