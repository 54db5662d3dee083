"""Call other libraries on seeded inputs and keep what they give: `make references` writes `tests/libraries/data/`.

Each entry names a loss of the catalogue, makes its inputs (numpy's generator, seed 0, 1, ...) and calls the library's own
function in float64. The data hold inputs, parameters, value and gradients, so that the tests need none of the libraries.
Run in an environment with `tests/libraries/requirements.txt`: `python tests/libraries/run.py [--check]`; `--check`
compares with the data that are there instead of writing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "references"))
from record import Case, binary, case, labels, normal, signs, uniform

jax.config.update("jax_enable_x64", True)
DATA = Path(__file__).resolve().parent / "data"

Arrays = dict[str, np.ndarray]
Result = tuple[float, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Library:
    """`call(arrays, parameters, wrt)`: the value and the gradients in `wrt` that the library gives."""

    package: str
    call: Callable[[Arrays, dict[str, Any], tuple[str, ...]], Result]
    cases: tuple[Case, ...]
    wrt: tuple[str, ...]


def torch_call(function: Callable[..., torch.Tensor]) -> Callable[[Arrays, dict[str, Any], tuple[str, ...]], Result]:
    def call(arrays: Arrays, parameters: dict[str, Any], wrt: tuple[str, ...]) -> Result:
        given = {n: torch.tensor(a).requires_grad_(n in wrt) for n, a in arrays.items()}
        value = function(**given, **parameters)
        found = torch.autograd.grad(value, [given[n] for n in wrt])
        return float(value.detach()), {n: g.numpy() for n, g in zip(wrt, found)}

    return call


def jax_call(function: Callable[..., Any]) -> Callable[[Arrays, dict[str, Any], tuple[str, ...]], Result]:
    def call(arrays: Arrays, parameters: dict[str, Any], wrt: tuple[str, ...]) -> Result:
        fixed = {n: a for n, a in arrays.items() if n not in wrt}

        def of(moving: dict[str, Any]) -> Any:
            return function(**moving, **fixed, **parameters)

        value, found = jax.value_and_grad(of)({n: jax.numpy.asarray(arrays[n]) for n in wrt})
        return float(value), {n: np.asarray(g) for n, g in found.items()}

    return call


def residuals(**parameters: Any) -> tuple[Case, ...]:
    return (
        case(pred=normal(7, scale=2.0), target=normal(7), parameters=parameters),
        case(pred=normal(3, 4, scale=5.0), target=normal(3, 4), parameters=parameters),
    )


def embeddings(n: int, d: int, classes: int, **parameters: Any) -> Case:
    """Embeddings of classes that all have two members at least."""

    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, Any]]:
        label = rng.permutation(np.arange(n) % classes)
        return {"z": rng.normal(size=(n, d)), "label": label}, parameters

    return make


def masks(*shape: int, **parameters: Any) -> Case:
    return case(
        prob=uniform(0.0, 1.0, *shape),
        target=lambda rng: (rng.random(shape) < 0.4).astype(np.float64),
        parameters=parameters,
    )


def optax_entries() -> dict[str, Library]:
    from optax import losses as o

    np_, nn = jax.numpy, jax.nn
    logits = (
        case(logits=normal(5, 4, scale=2.0), target=labels(4, 5)),
        case(logits=normal(3, 7, scale=3.0), target=labels(7, 3)),
    )
    binary_logits = (
        case(logits=normal(9, scale=3.0), target=binary(9)),
        case(logits=normal(2, 5, scale=3.0), target=binary(2, 5), parameters={"gamma": 1.5, "alpha": 0.6}),
    )
    scores = (case(score=normal(9), y=signs(9)), case(score=normal(3, 4), y=signs(3, 4)))
    ranked = (
        case(score=normal(3, 5), relevance=normal(3, 5)),
        case(score=normal(2, 8, scale=3.0), relevance=normal(2, 8)),
    )
    return {
        "log_cosh": Library(
            "optax", jax_call(lambda pred, target: o.log_cosh(pred, target).mean()), residuals(), ("pred", "target")
        ),
        "hinge": Library("optax", jax_call(lambda score, y: o.hinge_loss(score, y).mean()), scores, ("score",)),
        "focal": Library(
            "optax",
            jax_call(
                lambda logits, target, gamma=2.0, alpha=0.25: o.sigmoid_focal_loss(
                    logits, target, alpha=alpha, gamma=gamma
                ).mean()
            ),
            binary_logits,
            ("logits",),
        ),
        "poly1": Library(
            "optax",
            jax_call(
                lambda logits, target: o.poly_loss_cross_entropy(logits, nn.one_hot(target, logits.shape[1])).mean()
            ),
            logits,
            ("logits",),
        ),
        "sparsemax": Library(
            "optax",
            jax_call(lambda logits, target: o.multiclass_sparsemax_loss(logits, target).mean()),
            logits,
            ("logits",),
        ),
        "listnet": Library(
            "optax",
            jax_call(
                lambda score, relevance: np_.mean(
                    o.ranking_softmax_loss(score, nn.softmax(relevance, axis=-1), reduce_fn=None)
                )
            ),
            ranked,
            ("score",),
        ),
    }


def metric_entries() -> dict[str, Library]:
    from pytorch_metric_learning import losses as m
    from pytorch_metric_learning.distances import DotProductSimilarity, LpDistance
    from pytorch_metric_learning.reducers import MeanReducer

    def views(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
        both = torch.arange(len(a)).repeat(2)
        return m.NTXentLoss(temperature=temperature)(torch.cat([a, b]), both)

    def supervised(z: torch.Tensor, label: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
        return m.SupConLoss(temperature=temperature, reducer=MeanReducer())(z, label)

    def similar(
        z: torch.Tensor, label: torch.Tensor, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5
    ) -> torch.Tensor:
        return m.MultiSimilarityLoss(alpha=alpha, beta=beta, base=base)(z, label)

    # gamma stays small: the softplus of torch is inexact above 20
    def circle(z: torch.Tensor, label: torch.Tensor, margin: float = 0.25, gamma: float = 256.0) -> torch.Tensor:
        return m.CircleLoss(m=margin, gamma=gamma, reducer=MeanReducer())(z, label)

    def lifted(z: torch.Tensor, label: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
        distance = LpDistance(normalize_embeddings=False)
        return m.LiftedStructureLoss(neg_margin=margin, pos_margin=0, distance=distance)(z, label)

    def pairs(anchor: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        distance = DotProductSimilarity(normalize_embeddings=False)
        both = torch.arange(len(anchor)).repeat(2)
        return m.NPairsLoss(distance=distance)(torch.cat([anchor, positive]), both)

    def variance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return m.VICRegLoss()(a, ref_emb=b)

    two = (case(a=normal(6, 4), b=normal(6, 4)), case(a=normal(5, 3), b=normal(5, 3), parameters={"temperature": 0.2}))
    return {
        "nt_xent": Library("pytorch-metric-learning", torch_call(views), two, ("a", "b")),
        "sup_con": Library(
            "pytorch-metric-learning",
            torch_call(supervised),
            (embeddings(8, 3, 3), embeddings(9, 4, 2, temperature=0.3)),
            ("z",),
        ),
        "multi_similarity": Library(
            "pytorch-metric-learning",
            torch_call(similar),
            (embeddings(8, 3, 3), embeddings(9, 4, 2, alpha=1.0, beta=10.0, base=0.3)),
            ("z",),
        ),
        "circle": Library(
            "pytorch-metric-learning",
            torch_call(circle),
            (embeddings(8, 3, 3, gamma=6.0), embeddings(9, 4, 2, margin=0.4, gamma=4.0)),
            ("z",),
        ),
        "lifted_structure": Library(
            "pytorch-metric-learning",
            torch_call(lifted),
            (embeddings(8, 3, 3), embeddings(9, 4, 2, margin=2.0)),
            ("z",),
        ),
        "n_pair": Library(
            "pytorch-metric-learning",
            torch_call(pairs),
            (case(anchor=normal(6, 4), positive=normal(6, 4)), case(anchor=normal(4, 7), positive=normal(4, 7))),
            ("anchor", "positive"),
        ),
        "vicreg": Library(
            "pytorch-metric-learning",
            torch_call(variance),
            (case(a=normal(6, 4), b=normal(6, 4)), case(a=normal(9, 3), b=normal(9, 3))),
            ("a", "b"),
        ),
    }


def monai_entries() -> dict[str, Library]:
    from monai import losses as m

    def dice(
        prob: torch.Tensor, target: torch.Tensor, smooth_nr: float = 1e-5, smooth_dr: float = 1e-5
    ) -> torch.Tensor:
        return m.DiceLoss(smooth_nr=smooth_nr, smooth_dr=smooth_dr)(prob, target)

    def tversky(prob: torch.Tensor, target: torch.Tensor, alpha: float = 0.3, beta: float = 0.7) -> torch.Tensor:
        return m.TverskyLoss(alpha=alpha, beta=beta)(prob, target)

    return {
        "dice": Library(
            "monai",
            torch_call(dice),
            (masks(2, 3, 4, 5), masks(1, 2, 6, 3, smooth_nr=1.0, smooth_dr=1.0)),
            ("prob",),
        ),
        "tversky": Library(
            "monai", torch_call(tversky), (masks(2, 3, 4, 5), masks(1, 2, 6, 3, alpha=0.6, beta=0.2)), ("prob",)
        ),
    }


def kornia_entries() -> dict[str, Library]:
    from kornia import losses as k

    def structural(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 2 * k.ssim_loss(x, y, 11, padding="valid", eps=0.0)

    images = case(x=uniform(0.0, 1.0, 2, 1, 13, 14), y=uniform(0.0, 1.0, 2, 1, 13, 14))
    robust = {
        "cauchy": k.cauchy_loss,
        "welsch": k.welsch_loss,
        "geman_mcclure": k.geman_mcclure_loss,
        "pseudo_huber": k.charbonnier_loss,
    }
    made = {
        name: Library(
            "kornia",
            torch_call(lambda pred, target, f=f: f(pred, target, reduction="mean")),
            residuals(),
            ("pred", "target"),
        )
        for name, f in robust.items()
    }
    return {**made, "ssim": Library("kornia", torch_call(structural), (images,), ("x", "y"))}


def scoring_entries() -> dict[str, Library]:
    import scoringrules as s

    def gaussian(mu: np.ndarray, sigma: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean(s.crps_normal(y, mu, sigma)))

    def valued(function: Callable[..., float]) -> Callable[[Arrays, dict[str, Any], tuple[str, ...]], Result]:
        return lambda arrays, parameters, wrt: (function(**arrays, **parameters), {})

    return {
        "crps_gaussian": Library(
            "scoringrules",
            valued(gaussian),
            (case(mu=normal(7), sigma=uniform(0.3, 2.0, 7), y=normal(7, scale=2.0)),),
            (),
        ),
    }


def table() -> dict[str, Library]:
    parts = (optax_entries, metric_entries, monai_entries, kornia_entries, scoring_entries)
    return {name: entry for part in parts for name, entry in part().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    for name, entry in sorted(table().items()):
        stored: dict[str, np.ndarray] = {}
        described = []
        for seed, make in enumerate(entry.cases):
            arrays, parameters = make(np.random.default_rng(seed))
            value, gradients = entry.call(arrays, parameters, entry.wrt)
            described.append(parameters)
            stored |= {f"{seed}.input.{n}": a for n, a in arrays.items()}
            stored |= {f"{seed}.gradient.{n}": g for n, g in gradients.items()}
            stored[f"{seed}.value"] = np.array(value)
        path = DATA / f"{name}.npz"
        if options.check:
            kept = np.load(path)
            for key, array in stored.items():
                np.testing.assert_allclose(array, kept[key], rtol=1e-12, atol=1e-14, err_msg=f"{name} {key}")
        else:
            about = json.dumps({"package": entry.package, "parameters": described})
            np.savez_compressed(path, about=np.array(about), **stored)
        print(f"{name}: {entry.package}, {len(entry.cases)} cases")


if __name__ == "__main__":
    main()
