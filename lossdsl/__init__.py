"""lossdsl: a symbolic loss-design language and compiler."""

__version__ = "0.1.0"
