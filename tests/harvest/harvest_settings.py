"""Settings that fit the tiny pair of conftest.py."""

from mneme.harvest import HarvestConfig

CONFIG = HarvestConfig(
    layer=2,
    context_length=40,
    batch_tokens=200,
    shard_tokens=300,
    min_tokens=10,
    behaviour_share=0.5,
    behaviour_tokens=20,
    sink_ratio=1e6,
    store_dtype="float32",
)
