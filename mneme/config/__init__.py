"""The settings of a run: one section per room, TOML in and out, the command line."""

from mneme.config.run_config import RunConfig, make_config, read_config

__all__ = ["RunConfig", "make_config", "read_config"]
