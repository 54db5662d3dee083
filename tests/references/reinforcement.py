"""References of losses of reinforcement learning, in plain torch."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Case, Reference, binary, case, full, labels, normal, simplex, uniform


def policy_gradient(logp: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    return -(logp @ advantage.detach()) / len(logp)


def a2c(
    logp: torch.Tensor,
    advantage: torch.Tensor,
    value: torch.Tensor,
    ret: torch.Tensor,
    entropy: torch.Tensor,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> torch.Tensor:
    policy = policy_gradient(logp, advantage)
    return policy + value_weight * F.mse_loss(value, ret.detach()) - entropy_weight * entropy.mean()


def dqn(
    q: torch.Tensor,
    action: torch.Tensor,
    reward: torch.Tensor,
    done: torch.Tensor,
    q_next: torch.Tensor,
    gamma: float = 0.99,
    delta: float = 1.0,
) -> torch.Tensor:
    target = torch.where(done == 1, reward, reward + gamma * q_next.amax(1)).detach()
    return F.huber_loss(q.gather(1, action[:, None])[:, 0], target, delta=delta)


def double_dqn(
    q: torch.Tensor,
    action: torch.Tensor,
    reward: torch.Tensor,
    done: torch.Tensor,
    q_next: torch.Tensor,
    q_online_next: torch.Tensor,
    gamma: float = 0.99,
    delta: float = 1.0,
) -> torch.Tensor:
    best = torch.stack([row[row.argmax()] * 0 + other[row.argmax()] for row, other in zip(q_online_next, q_next)])
    target = torch.where(done == 1, reward, reward + gamma * best).detach()
    return F.huber_loss(q.gather(1, action[:, None])[:, 0], target, delta=delta)


def c51(
    logits: torch.Tensor,
    action: torch.Tensor,
    following: torch.Tensor,
    reward: torch.Tensor,
    done: torch.Tensor,
    gamma: float = 0.99,
    low: float = -10.0,
    high: float = 10.0,
) -> torch.Tensor:
    """Mass is shared between the two neighbouring atoms, as in the paper's algorithm."""
    atoms, total = following.shape[1], logits.sum() * 0
    width = (high - low) / (atoms - 1)
    for row, a, p, r, d in zip(logits, action, following.detach(), reward.tolist(), done.tolist()):
        mass = torch.zeros(atoms, dtype=torch.float64)
        for j in range(atoms):
            at = (min(max(r + gamma * (1 - d) * (low + j * width), low), high) - low) / width
            left = min(math.floor(at), atoms - 2)
            mass[left] += p[j] * (left + 1 - at)
            mass[left + 1] += p[j] * (at - left)
        total = total - (mass * F.log_softmax(row[a], 0)).sum()
    return total / len(logits)


def qr_dqn(theta: torch.Tensor, target: torch.Tensor, kappa: float = 1.0) -> torch.Tensor:
    total, count = theta.sum() * 0, theta.shape[1]
    for i in range(count):
        tau = (2 * i + 1) / (2 * count)
        for j in range(target.shape[1]):
            u = target[:, j].detach() - theta[:, i]
            huber = F.huber_loss(theta[:, i], target[:, j].detach(), reduction="none", delta=kappa)
            total = total + ((tau - (u < 0).double()).abs() * huber / kappa).sum() / target.shape[1]
    return total / len(theta)


def sac_critic(
    q1: torch.Tensor,
    q2: torch.Tensor,
    reward: torch.Tensor,
    done: torch.Tensor,
    q1_next: torch.Tensor,
    q2_next: torch.Tensor,
    logp_next: torch.Tensor,
    gamma: float = 0.99,
    alpha: float = 0.2,
) -> torch.Tensor:
    soft = torch.where(q1_next < q2_next, q1_next, q2_next) - alpha * logp_next
    target = (reward + gamma * torch.where(done == 1, torch.zeros_like(soft), soft)).detach()
    return F.mse_loss(q1, target) + F.mse_loss(q2, target)


def sac_actor(logp: torch.Tensor, q1: torch.Tensor, q2: torch.Tensor, alpha: float = 0.2) -> torch.Tensor:
    return alpha * logp.mean() - torch.where(q1 < q2, q1, q2).mean()


def sac_alpha(
    logp: torch.Tensor, log_alpha: torch.Tensor, target_entropy: float = -1.0, on_alpha: bool = False
) -> torch.Tensor:
    weight = log_alpha.exp() if on_alpha else log_alpha
    return -weight * (logp.detach().mean() + target_entropy)


def td3_critic(
    q1: torch.Tensor,
    q2: torch.Tensor,
    reward: torch.Tensor,
    done: torch.Tensor,
    q1_next: torch.Tensor,
    q2_next: torch.Tensor,
    gamma: float = 0.99,
) -> torch.Tensor:
    return sac_critic(q1, q2, reward, done, q1_next, q2_next, torch.zeros_like(q1), gamma, 0.0)


def td3_actor(q1: torch.Tensor) -> torch.Tensor:
    return -q1.sum() / len(q1)


def awr(logp: torch.Tensor, advantage: torch.Tensor, beta: float = 0.05, most: float = 20.0) -> torch.Tensor:
    weight = torch.exp(advantage.detach() / beta).clamp(max=most)
    return -(logp @ weight) / len(logp)


def cql(q: torch.Tensor, action: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    return alpha * (torch.logsumexp(q, 1) - q.gather(1, action[:, None])[:, 0]).mean()


def returns(deltas: list[torch.Tensor], factors: list[torch.Tensor]) -> list[torch.Tensor]:
    """deltas[s] + factors[s] * (deltas[s + 1] + ...), each written out."""
    found = []
    for start in range(len(deltas)):
        total, weight = torch.zeros_like(deltas[0]), torch.ones_like(deltas[0])
        for s in range(start, len(deltas)):
            total = total + weight * deltas[s]
            weight = weight * factors[s]
        found.append(total)
    return found


def gae(
    reward: torch.Tensor,
    value: torch.Tensor,
    done: torch.Tensor,
    last_value: torch.Tensor,
    gamma: float = 0.99,
    lam: float = 0.95,
) -> torch.Tensor:
    after = torch.cat([value[1:], last_value[None]])
    going = 1 - done.double()
    deltas = reward + gamma * going * after - value
    advantage = torch.stack(returns(list(deltas), list(gamma * lam * going)))
    return F.mse_loss((advantage + value).detach(), value) / 2


def vtrace(
    log_rho: torch.Tensor,
    reward: torch.Tensor,
    value: torch.Tensor,
    done: torch.Tensor,
    last_value: torch.Tensor,
    logp: torch.Tensor,
    entropy: torch.Tensor,
    gamma: float = 0.99,
    rho_max: float = 1.0,
    c_max: float = 1.0,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> torch.Tensor:
    with torch.no_grad():
        rho, c = log_rho.exp().clamp(max=rho_max), log_rho.exp().clamp(max=c_max)
        going = gamma * (1 - done.double())
        deltas = rho * (reward + going * torch.cat([value[1:], last_value[None]]) - value)
        target = value + torch.stack(returns(list(deltas), list(going * c)))
        advantage = rho * (reward + going * torch.cat([target[1:], last_value[None]]) - value)
    policy = -(logp * advantage).mean()
    return policy + value_weight * F.mse_loss(value, target) - entropy_weight * entropy.mean()


def rollout(t: int, b: int, names: str, share: float = 0.3, **p: float) -> Case:
    return case(
        value=normal(t, b),
        reward=normal(t, b),
        done=binary(t, b, p=share),
        last_value=normal(b),
        parameters=p,
        **{name: normal(t, b) for name in names.split()},
    )


def transitions(b: int, a: int, names: str, share: float = 0.3, **p: float) -> Case:
    return case(
        q=normal(b, a),
        action=labels(a, b),
        reward=normal(b),
        done=binary(b, p=share),
        parameters=p,
        **{name: normal(b, a) for name in names.split()},
    )


def categorical(b: int, a: int, z: int, spread: float = 3.0, **p: float) -> Case:
    return case(
        logits=normal(b, a, z),
        action=labels(a, b),
        following=simplex(b, z),
        reward=normal(b, scale=spread),
        done=binary(b, p=0.3),
        parameters=p,
    )


def twins(b: int, names: str, **p: float) -> Case:
    return case(reward=normal(b), done=binary(b, p=0.3), parameters=p, **{name: normal(b) for name in names.split()})


SOFT = "q1 q2 q1_next q2_next logp_next"

REFERENCES = {
    "policy_gradient": Reference(
        "reinforcement/policy_gradient",
        policy_gradient,
        (
            case(logp=uniform(-3, 0, 6), advantage=normal(6)),
            case(logp=uniform(-9, 0, 3), advantage=normal(3, scale=4)),
            case(logp=uniform(-1, 0, 1), advantage=normal(1)),
        ),
        mutants=(
            ("-logp", "logp"),
            ("* stop", "+ stop"),
            ("stop(advantage)", "advantage"),
            ("logp * stop(advantage)", "stop(logp) * advantage"),
            ("mean(per)", "sum(per)"),
        ),
    ),
    "a2c": Reference(
        "reinforcement/a2c",
        a2c,
        tuple(
            case(
                logp=uniform(-3, 0, n),
                advantage=normal(n),
                value=normal(n),
                ret=normal(n),
                entropy=uniform(0, 2, n),
                parameters=p,
            )
            for n, p in ((6, {}), (3, {"value_weight": 0.25, "entropy_weight": 0.5}), (1, {"entropy_weight": 0.3}))
        ),
    ),
    "dqn": Reference(
        "reinforcement/dqn",
        dqn,
        (
            transitions(8, 3, "q_next"),
            transitions(5, 4, "q_next", gamma=0.7, delta=0.3),
            transitions(6, 2, "q_next", gamma=0.9, delta=2.0),
        ),
        wrt=("q", "q_next", "reward"),
        at=(case(q=full(1.0, 3, 2), action=labels(2, 3), reward=full(1.0, 3), done=full(1, 3), q_next=normal(3, 2)),),
    ),
    "double_dqn": Reference(
        "reinforcement/double_dqn",
        double_dqn,
        (
            transitions(8, 3, "q_next q_online_next"),
            transitions(5, 4, "q_next q_online_next", gamma=0.7, delta=0.3),
            transitions(6, 2, "q_next q_online_next", gamma=0.9, delta=2.0),
        ),
        wrt=("q", "q_next", "reward"),
        at=(
            case(
                q=normal(3, 2),
                action=labels(2, 3),
                reward=normal(3),
                done=full(0, 3),
                q_next=normal(3, 2),
                q_online_next=full(1.0, 3, 2),
            ),
        ),
    ),
    "c51": Reference(
        "reinforcement/c51",
        c51,
        (
            categorical(4, 3, 11),
            categorical(3, 2, 5, gamma=0.7, low=-3.0, high=4.0),
            categorical(5, 2, 7, gamma=0.9, low=0.0, high=2.0, spread=1.0),
        ),
        wrt=("logits", "following"),
        at=(
            case(
                logits=normal(3, 2, 5),
                action=labels(2, 3),
                following=simplex(3, 5),
                reward=np.array([0.0, 5.0, -50.0]),
                done=np.array([1, 1, 0]),
            ),
        ),
    ),
    "qr_dqn": Reference(
        "reinforcement/qr_dqn",
        qr_dqn,
        (
            case(theta=normal(4, 5), target=normal(4, 3)),
            case(theta=normal(3, 2), target=normal(3, 6), parameters={"kappa": 0.4}),
            case(theta=normal(2, 4), target=normal(2, 4), parameters={"kappa": 2.0}),
        ),
        at=(case(theta=full(1.0, 2, 3), target=full(1.0, 2, 3)),),
    ),
    "sac_critic": Reference(
        "reinforcement/sac_critic",
        sac_critic,
        (twins(6, SOFT), twins(4, SOFT, gamma=0.5, alpha=1.5), twins(3, SOFT, gamma=0.9, alpha=0.7)),
        wrt=("q1", "q2", "q1_next", "logp_next"),
    ),
    "sac_actor": Reference(
        "reinforcement/sac_actor",
        sac_actor,
        (
            case(logp=normal(6), q1=normal(6), q2=normal(6)),
            case(logp=normal(4), q1=normal(4), q2=normal(4), parameters={"alpha": 1.5}),
            case(logp=normal(3), q1=normal(3), q2=normal(3), parameters={"alpha": 0.7}),
        ),
        at=(case(logp=normal(3), q1=full(1.0, 3), q2=full(1.0, 3)),),
        mutants=(
            ("alpha * logp", "alpha + logp"),
            ("- min", "+ min"),
            ("min(q1", "max(q1"),
            ("q1, q2)\n    return", "q1, q1)\n    return"),
            ("mean(per)", "sum(per)"),
        ),
    ),
    "sac_alpha": Reference(
        "reinforcement/sac_alpha",
        sac_alpha,
        (
            case(logp=normal(6), log_alpha=np.asarray(0.3)),
            case(logp=normal(4), log_alpha=np.asarray(-1.0), parameters={"target_entropy": -3.0}),
            case(logp=normal(3), log_alpha=np.asarray(0.7), parameters={"on_alpha": True}),
        ),
        mutants=(
            ("per = -(", "per = ("),
            ("exp(log_alpha)", "expm1(log_alpha)"),
            ("logp + target", "logp - target"),
            ("* stop", "/ stop"),
            ("mean(per)", "sum(per)"),
        ),
    ),
    "td3_critic": Reference(
        "reinforcement/td3_critic",
        td3_critic,
        (
            twins(6, "q1 q2 q1_next q2_next"),
            twins(4, "q1 q2 q1_next q2_next", gamma=0.5),
            twins(3, "q1 q2 q1_next q2_next", gamma=0.9),
        ),
        wrt=("q1", "q2", "q1_next"),
    ),
    "td3_actor": Reference(
        "reinforcement/td3_actor",
        td3_actor,
        (case(q1=normal(6)), case(q1=normal(3, scale=4)), case(q1=normal(1))),
        mutants=(
            ("-q1", "q1"),
            ("-q1", "-2 * q1"),
            ("-q1", "1 - q1"),
            ("-q1", "-q1^2"),
            ("mean(per)", "sum(per)"),
        ),
    ),
    "awr": Reference(
        "reinforcement/awr",
        awr,
        (
            case(logp=uniform(-3, 0, 8), advantage=normal(8, scale=0.2)),
            case(logp=uniform(-3, 0, 4), advantage=normal(4), parameters={"beta": 1.0, "most": 3.0}),
            case(logp=uniform(-3, 0, 5), advantage=normal(5), parameters={"beta": 2.0, "most": 1.0}),
        ),
        at=(case(logp=uniform(-3, 0, 4), advantage=normal(4, scale=1e3)),),
    ),
    "cql": Reference(
        "reinforcement/cql",
        cql,
        (
            case(q=normal(5, 4), action=labels(4, 5)),
            case(q=normal(3, 2, scale=5), action=labels(2, 3), parameters={"alpha": 0.3}),
            case(q=normal(4, 6), action=labels(6, 4), parameters={"alpha": 5.0}),
        ),
        mutants=(
            ("-alpha", "alpha"),
            ("* log_softmax", "+ log_softmax"),
            ("log_softmax", "softmax"),
            ("a = action", "a = (action + 1) % size(a)"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(q=normal(3, 4, scale=1e3), action=labels(4, 3)), case(q=normal(3, 1), action=full(0, 3))),
    ),
    "gae": Reference(
        "reinforcement/gae",
        gae,
        (rollout(5, 3, ""), rollout(4, 2, "", gamma=0.7, lam=0.5), rollout(6, 1, "", 0.0, gamma=0.9, lam=0.8)),
        at=(rollout(1, 2, ""), rollout(4, 2, "", 1.0), rollout(4, 2, "", lam=0.0)),
    ),
    "vtrace": Reference(
        "reinforcement/vtrace",
        vtrace,
        (
            rollout(5, 3, "log_rho logp entropy"),
            rollout(4, 2, "log_rho logp entropy", gamma=0.7, rho_max=1.5, c_max=0.8, value_weight=0.3),
            rollout(6, 1, "log_rho logp entropy", 0.0, gamma=0.9, rho_max=0.7, entropy_weight=0.5),
        ),
        at=(rollout(1, 2, "log_rho logp entropy"), rollout(4, 2, "log_rho logp entropy", 1.0)),
    ),
}
