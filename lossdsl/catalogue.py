"""Where `.loss` files are found: paths, and the losses that are shipped, by name ("classification.focal")."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def root() -> Path | None:
    """The folder of the shipped losses: inside an installed package, or beside it in a checkout."""
    return next((p for p in (_HERE / "examples", _HERE.parent / "examples") if p.is_dir()), None)


def names() -> list[str]:
    """All shipped losses as "field.name", sorted."""
    top = root()
    return [] if top is None else sorted(f"{p.parent.name}.{p.stem}" for p in top.glob("*/*.loss"))


def find(spec: str) -> tuple[str, str | None]:
    """(path, name of one loss or None) of "f.loss", "f.loss:huber" or "regression.huber". A path that does not exist
    is given back as it is: reading it says so."""
    if Path(spec).exists():
        return spec, None
    head, colon, tail = spec.rpartition(":")
    if colon and head and tail.isidentifier():
        return find(head)[0], tail
    if spec in names():
        top = root()
        assert top is not None
        return str(top / Path(*spec.split(".")).with_suffix(".loss")), None
    return spec, None
