"""Loading a model says nothing: transformers' progress bars and advice belong to no library's output."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers and the hub client inside the block; what was set before is set again after it."""
    # Imported here: finding a model must not wait for transformers.
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    # The GGUF reader's bar answers to no setting.
    gguf_reader: Any = modeling_gguf_pytorch_utils
    gguf_bar = gguf_reader.tqdm
    gguf_reader.tqdm = partial(gguf_bar, disable=True)
    try:
        with warnings.catch_warnings():
            # peft still asks transformers for names that are to go.
            warnings.simplefilter("ignore", FutureWarning)
            # torch, of a pickle that it then refuses
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            yield
    finally:
        gguf_reader.tqdm = gguf_bar
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()
