"""The settings of a run: one section a room, TOML in and out, the command line."""

from mneme.config.run_config import RunConfig, apply_overrides, make_config, read_config

__all__ = ["RunConfig", "apply_overrides", "make_config", "read_config"]
