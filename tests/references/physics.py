"""References of residuals, penalties and barriers: sums over points, written with torch's linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Reference, case, full, normal, uniform, unit


def pinn_heat(
    u_t: torch.Tensor, u_xx: torch.Tensor, source: torch.Tensor | None = None, kappa: float = 1.0
) -> torch.Tensor:
    right = kappa * u_xx + (0 if source is None else source)
    return F.mse_loss(u_t, right)


def pinn_burgers(
    u: torch.Tensor, u_t: torch.Tensor, u_x: torch.Tensor, u_xx: torch.Tensor, nu: float = 0.00318309886
) -> torch.Tensor:
    return F.mse_loss(torch.addcmul(u_t, u, u_x), nu * u_xx)


def navier_stokes(
    velocity: torch.Tensor,
    velocity_t: torch.Tensor,
    slope: torch.Tensor,
    laplacian: torch.Tensor,
    pressure_slope: torch.Tensor,
    nu: float = 0.01,
    weight: float = 1.0,
) -> torch.Tensor:
    total = velocity.sum() * 0
    for v, v_t, jacobian, lap, p in zip(velocity, velocity_t, slope, laplacian, pressure_slope):
        momentum = v_t + jacobian @ v + p - nu * lap
        total = total + torch.dot(momentum, momentum) + weight * torch.trace(jacobian) ** 2
    return total / len(velocity)


def pinn_boundary(
    u: torch.Tensor,
    g: torch.Tensor,
    slope: torch.Tensor,
    normal: torch.Tensor,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> torch.Tensor:
    flux = torch.einsum("nd,nd->n", slope, normal)
    return F.mse_loss(alpha * u + beta * flux, g)


def conservation(
    density: torch.Tensor, volume: torch.Tensor, relative: bool = False, free: bool = False
) -> torch.Tensor:
    mass = density @ volume
    first = mass[0] if free else mass[0].detach()
    gaps = [((m - first) / first if relative else m - first).square() for m in mass]
    return torch.stack(gaps).mean()


def quadratic_penalty(h: torch.Tensor, g: torch.Tensor, mu: float = 1.0) -> torch.Tensor:
    broken = torch.where(g > 0, g, torch.zeros_like(g))
    return mu * (torch.linalg.vector_norm(h) ** 2 + torch.linalg.vector_norm(broken) ** 2) / (2 * len(h))


def log_barrier(g: torch.Tensor, t: float = 5.0) -> torch.Tensor:
    total = g.sum() * 0
    for x in g.flatten():
        if x <= -1 / t**2:
            total = total - torch.log(-x) / t
        else:
            total = total + t * x + torch.log(torch.tensor(t**2, dtype=torch.float64)) / t + 1 / t
    return total / len(g)


def pure_log_barrier(g: torch.Tensor, t: float = 5.0) -> torch.Tensor:
    return torch.log(-1 / g).sum(1).mean() / t


def augmented_lagrangian(
    h: torch.Tensor, lam: torch.Tensor, g: torch.Tensor, nu: torch.Tensor, mu: float = 10.0
) -> torch.Tensor:
    """Rockafellar's terms by their two cases."""
    lam, nu = lam.detach(), nu.detach()
    total = torch.dot(lam, h) + mu / 2 * torch.dot(h, h)
    for x, v in zip(g, nu):
        total = total + (v * x + mu / 2 * x**2 if v + mu * x > 0 else -(v**2) / (2 * mu))
    return total


def sobolev(
    value: torch.Tensor,
    target: torch.Tensor,
    slope: torch.Tensor,
    target_slope: torch.Tensor,
    weight: float = 1.0,
) -> torch.Tensor:
    return F.mse_loss(value, target) + weight * slope.shape[1] * F.mse_loss(slope, target_slope)


def eikonal(slope: torch.Tensor) -> torch.Tensor:
    return torch.stack([(torch.linalg.vector_norm(one) - 1).square() for one in slope]).mean()


def flow(n: int, d: int, **p: Any) -> Case:
    return case(
        velocity=normal(n, d),
        velocity_t=normal(n, d),
        slope=normal(n, d, d),
        laplacian=normal(n, d, scale=3),
        pressure_slope=normal(n, d),
        parameters=p,
    )


def boundary(n: int, d: int, **p: Any) -> Case:
    return case(u=normal(n), g=normal(n), slope=normal(n, d), normal=unit(n, d), parameters=p)


def points(n: int, **p: Any) -> Case:
    return case(u=normal(n), u_t=normal(n), u_x=normal(n), u_xx=normal(n, scale=3), parameters=p)


def masses(t: int, x: int, **p: Any) -> Case:
    return case(density=uniform(0.2, 2, t, x), volume=uniform(0.1, 1, x), parameters=p)


def constraints(i: int, j: int, **p: Any) -> Case:
    return case(h=normal(i), lam=normal(i), g=normal(j), nu=uniform(0, 3, j), parameters=p)


def at_the_join(rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    return {"g": np.array([[-0.25, 0.0], [0.25, -1.0]])}, {"t": 2.0}


REFERENCES = {
    "pinn_heat": Reference(
        "physics/pinn_heat",
        pinn_heat,
        (
            case(u_t=normal(6), u_xx=normal(6), source=normal(6)),
            case(u_t=normal(5), u_xx=normal(5), parameters={"kappa": 0.3}),
            case(u_t=normal(3), u_xx=normal(3), source=normal(3), parameters={"kappa": 7.0}),
        ),
    ),
    "pinn_burgers": Reference("physics/pinn_burgers", pinn_burgers, (points(6), points(5, nu=0.5), points(3, nu=2.0))),
    "navier_stokes": Reference(
        "physics/navier_stokes", navier_stokes, (flow(5, 2), flow(4, 3, nu=0.4, weight=2.5), flow(1, 2, weight=0.0))
    ),
    "pinn_boundary": Reference(
        "physics/pinn_boundary",
        pinn_boundary,
        (boundary(5, 3, alpha=0.4, beta=1.5), boundary(6, 2, alpha=0.0, beta=1.0), boundary(4, 2)),
        wrt=("u", "g", "slope"),
    ),
    "conservation": Reference(
        "physics/conservation",
        conservation,
        (masses(5, 3), masses(4, 6, free=True), masses(6, 2, relative=True), masses(3, 3, relative=True, free=True)),
        wrt=("density",),
        at=(masses(1, 3),),
    ),
    "quadratic_penalty": Reference(
        "physics/quadratic_penalty",
        quadratic_penalty,
        tuple(
            case(h=normal(n, i), g=normal(n, j), parameters={"mu": m})
            for n, i, j, m in ((5, 2, 3, 1.0), (3, 1, 4, 7.0), (1, 3, 2, 0.2))
        ),
        at=(case(h=full(0.0, 2, 2), g=full(0.0, 2, 3)),),
    ),
    "log_barrier": Reference(
        "physics/log_barrier",
        log_barrier,
        (
            case(g=normal(5, 3, scale=0.3)),
            case(g=normal(4, 2), parameters={"t": 1.5}),
            case(g=normal(3, 6, scale=0.1, shift=-0.05), parameters={"t": 12.0}),
        ),
        at=(at_the_join, case(g=normal(4, 2, scale=1e8))),
    ),
    "pure_log_barrier": Reference(
        "physics/pure_log_barrier",
        pure_log_barrier,
        (
            case(g=uniform(-3, -0.1, 5, 3)),
            case(g=uniform(-1, -0.01, 4, 2), parameters={"t": 1.5}),
            case(g=uniform(-9, -5, 3, 4), parameters={"t": 20.0}),
        ),
        mutants=(
            ("-log(-g)", "log(-g)"),
            ("/ t", "* t"),
            ("log(-g)", "log(1 - g)"),
            ("sum(cost", "mean(cost"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(g=full(-1e-300, 2, 2)),),
    ),
    "augmented_lagrangian": Reference(
        "physics/augmented_lagrangian",
        augmented_lagrangian,
        (constraints(4, 5), constraints(2, 6, mu=0.5), constraints(1, 3, mu=3.0)),
        wrt=("h", "g"),
        at=(case(h=full(0.0, 2), lam=normal(2), g=full(0.0, 3), nu=full(0.0, 3)),),
    ),
    "sobolev": Reference(
        "physics/sobolev",
        sobolev,
        tuple(
            case(
                value=normal(n),
                target=normal(n),
                slope=normal(n, d),
                target_slope=normal(n, d),
                parameters={"weight": w},
            )
            for n, d, w in ((6, 3, 1.0), (4, 2, 0.3), (3, 5, 4.0))
        ),
    ),
    "eikonal": Reference(
        "physics/eikonal",
        eikonal,
        (case(slope=normal(6, 3)), case(slope=normal(5, 2, scale=0.1)), case(slope=normal(3, 4, scale=1e4))),
        mutants=(
            ("- 1", "- 2"),
            ("- 1", "+ 1"),
            (")^2", ")^3"),
            ("norm(slope", "sum(slope"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(slope=full(0.0, 2, 3)),),
    ),
}
