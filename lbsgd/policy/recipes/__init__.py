"""The TOML presets shipped with lbsgd."""
