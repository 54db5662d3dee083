"""References of losses of sequences: torch's functions, else alignments one by one."""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from references.record import Arrays, Case, Maker, Reference, case, full, labels, normal, uniform


def padded(classes: int, *shape: int, pad: int = -100, p: float = 0.3) -> Maker:
    return lambda rng: np.where(rng.random(shape) < p, pad, rng.integers(0, classes, size=shape))


def token_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    pad: int = -100,
    per_sequence: bool = False,
    per_batch: bool = False,
) -> torch.Tensor:
    if not (target != pad).any():
        return logits.sum() * 0
    if not (per_sequence or per_batch):
        return F.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad)
    rows = []
    for z, t in zip(logits, target):
        nll = F.cross_entropy(z[t != pad], t[t != pad], reduction="sum")
        rows.append(nll / max(int((t != pad).sum()), 1) if per_sequence else nll)
    return torch.stack(rows).mean()


def smoothed_token_nll(logits: torch.Tensor, target: torch.Tensor, eps: float = 0.1, pad: int = -100) -> torch.Tensor:
    """By soft targets."""
    kept = target != pad
    rows, labels = logits[kept], target[kept]
    classes = logits.shape[-1]
    soft = torch.full_like(rows, eps / max(classes - 1, 1))
    soft[torch.arange(len(labels)), labels] = 1 - eps
    return -(soft * F.log_softmax(rows, -1)).sum()


def unlikelihood(logits: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    classes, total = logits.shape[-1], logits.sum() * 0
    for z, taken in zip(logits.flatten(0, 1), negative.flatten(0, 1)):
        for v in range(classes):
            if taken[v]:
                others = torch.cat([z[:v], z[v + 1 :]])
                total = total + torch.logsumexp(z, 0) - torch.logsumexp(others, 0)
    return total / (logits.numel() // classes)


def minimum_risk(logp: torch.Tensor, cost: torch.Tensor, alpha: float = 0.005) -> torch.Tensor:
    q = torch.exp(alpha * logp)
    return ((q * cost.detach()).sum(1) / q.sum(1)).mean()


def nbest_listwise(score: torch.Tensor, reward: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return F.cross_entropy(score, F.softmax(reward.detach() / temperature, 1))


def brio_ranking(score: torch.Tensor, margin: float = 0.001) -> torch.Tensor:
    total, (b, k) = score.sum() * 0, score.shape
    for i in range(k):
        for j in range(i + 1, k):
            ones = torch.ones(b, dtype=score.dtype)
            total = total + F.margin_ranking_loss(
                score[:, i], score[:, j], ones, margin=(j - i) * margin, reduction="sum"
            )
    return total / b


def structured_hinge(score: torch.Tensor, cost: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    return torch.stack([(s + c).amax() - s[g] for s, c, g in zip(score, cost, gold)]).mean()


def ctc(
    logits: torch.Tensor,
    target: torch.Tensor,
    frames: torch.Tensor,
    labels: torch.Tensor,
    blank: int = 0,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """torch's, whose second derivative is that of the sum over all alignments."""
    if logits.requires_grad and len(logits) <= 4:
        return _ctc_by_alignments(logits, target, frames, labels, blank)
    return F.ctc_loss(F.log_softmax(logits, 2), target, frames, labels, blank=blank, zero_infinity=zero_infinity)


def _ctc_by_alignments(
    logits: torch.Tensor, target: torch.Tensor, frames: torch.Tensor, labels: torch.Tensor, blank: int
) -> torch.Tensor:
    rows = []
    for b in range(logits.shape[1]):
        wanted, scores = target[b, : labels[b]].tolist(), []
        logp = F.log_softmax(logits[: frames[b], b], 1)
        for path in itertools.product(range(logits.shape[2]), repeat=int(frames[b])):
            collapsed = [c for i, c in enumerate(path) if (i == 0 or path[i - 1] != c) and c != blank]
            if collapsed == wanted:
                scores.append(sum((logp[t, c] for t, c in enumerate(path)), logp.new_zeros(())))
        rows.append(-torch.logsumexp(torch.stack(scores), 0) / max(len(wanted), 1))
    return torch.stack(rows).mean()


def crf_nll(
    emission: torch.Tensor, transition: torch.Tensor, target: torch.Tensor, length: torch.Tensor
) -> torch.Tensor:
    """All paths."""
    rows = []
    for e, y, n in zip(emission, target, length.tolist()):

        def score(path: tuple[int, ...] | list[int], e: torch.Tensor = e) -> torch.Tensor:
            total = sum((e[t, c] for t, c in enumerate(path)), e.new_zeros(()))
            return sum((transition[a, b] for a, b in itertools.pairwise(path)), total)

        every = [score(p) for p in itertools.product(range(e.shape[1]), repeat=n)]
        rows.append(torch.logsumexp(torch.stack(every), 0) - score(y[:n].tolist()))
    return torch.stack(rows).mean()


def transducer(
    logits: torch.Tensor,
    target: torch.Tensor,
    frames: torch.Tensor,
    labels: torch.Tensor,
    blank: int = 0,
) -> torch.Tensor:
    """All orders of labels and of frames, the last of which ends the sequence."""
    rows = []
    for z, y, t, u in zip(logits, target, frames.tolist(), labels.tolist()):
        logp, scores = F.log_softmax(z, -1), []
        for emitted in itertools.combinations(range(t - 1 + u), u):
            i, j, total = 0, 0, logp[t - 1, u, blank]
            for k in range(t - 1 + u):
                if k in emitted:
                    total, j = total + logp[i, j, y[j]], j + 1
                else:
                    total, i = total + logp[i, j, blank], i + 1
            scores.append(total)
        rows.append(-torch.logsumexp(torch.stack(scores), 0))
    return torch.stack(rows).mean()


def tokens(b: int, t: int, v: int, p: float = 0.3, **parameters: float) -> Case:
    pad = int(parameters.get("pad", -100))
    return case(logits=normal(b, t, v, scale=2), target=padded(v, b, t, pad=pad, p=p), parameters=parameters)


def negatives(b: int, t: int, v: int, p: float = 0.3, scale: float = 1.0) -> Case:
    return case(logits=normal(b, t, v, scale=scale), negative=lambda rng: rng.random((b, t, v)) < p)


def aligned(t: int, b: int, c: int, u: int, frames: list[int], counts: list[int], **p: int) -> Case:
    def make(rng: np.random.Generator) -> tuple[Arrays, dict[str, int]]:
        target = rng.integers(0, c - 1, size=(b, u))
        target += target >= p.get("blank", 0)  # no blanks
        return {
            "logits": rng.normal(size=(t, b, c)),
            "target": target,
            "frames": np.array(frames),
            "labels": np.array(counts),
        }, p

    return make


def repeated(rng: np.random.Generator) -> tuple[Arrays, dict[str, bool]]:
    """Two equal labels need three frames; one of the sequences has two."""
    return {
        "logits": rng.normal(size=(5, 2, 3)),
        "target": np.array([[1, 1], [1, 1]]),
        "frames": np.array([2, 5]),
        "labels": np.array([2, 2]),
    }, {"zero_infinity": True}


def chains(b: int, t: int, c: int, length: list[int]) -> Case:
    return case(emission=normal(b, t, c), transition=normal(c, c), target=labels(c, b, t), length=np.array(length))


def lattices(b: int, t: int, u: int, v: int, frames: list[int], counts: list[int], **p: int) -> Case:
    return case(
        logits=normal(b, t, u + 1, v),
        target=labels(v, b, u),
        frames=np.array(frames),
        labels=np.array(counts),
        parameters=p,
    )


REFERENCES = {
    "token_cross_entropy": Reference(
        "sequence/token_cross_entropy",
        token_cross_entropy,
        (tokens(3, 4, 5), tokens(2, 6, 3, per_sequence=True, pad=-1), tokens(4, 3, 2, per_batch=True)),
        at=(
            tokens(2, 3, 4, 1.0),
            case(
                logits=normal(2, 3, 4),
                target=np.array([[-100, -100, -100], [1, 2, -100]]),
                parameters={"per_sequence": True},
            ),
        ),
    ),
    "smoothed_token_nll": Reference(
        "sequence/smoothed_token_nll",
        smoothed_token_nll,
        (tokens(3, 4, 5), tokens(2, 6, 3, eps=0.4, pad=-1), tokens(4, 3, 2, eps=0.7)),
        at=(tokens(2, 3, 4, 1.0), tokens(2, 3, 4, eps=0.0)),
    ),
    "unlikelihood": Reference(
        "sequence/unlikelihood",
        unlikelihood,
        (negatives(2, 3, 5), negatives(3, 2, 4, 0.6, 2.0), negatives(1, 4, 3)),
        mutants=(
            ("-sum", "sum"),
            ("sum(log1mexp", "mean(log1mexp"),
            ("log1mexp(log_softmax(logits over v))", "log_softmax(logits over v)"),
            ("over v where negative", "over v where not negative"),
            ("mean(per)", "sum(per)"),
        ),
        at=(negatives(2, 3, 4, 0.0),),
    ),
    "minimum_risk": Reference(
        "sequence/minimum_risk",
        minimum_risk,
        (
            case(logp=uniform(-30, 0, 3, 4), cost=uniform(0, 1, 3, 4)),
            case(logp=uniform(-5, 0, 2, 6), cost=normal(2, 6), parameters={"alpha": 0.5}),
            case(logp=uniform(-5, 0, 5, 2), cost=normal(5, 2), parameters={"alpha": 1.5}),
        ),
        at=(case(logp=full(-1.0, 2, 3), cost=normal(2, 3)), case(logp=full(-1.0, 2, 1), cost=normal(2, 1))),
    ),
    "nbest_listwise": Reference(
        "sequence/nbest_listwise",
        nbest_listwise,
        (
            case(score=normal(3, 4), reward=normal(3, 4)),
            case(score=normal(2, 6, scale=4), reward=normal(2, 6), parameters={"temperature": 0.3}),
            case(score=normal(5, 2), reward=normal(5, 2), parameters={"temperature": 2.0}),
        ),
        at=(case(score=normal(2, 3, scale=1e3), reward=normal(2, 3)), case(score=normal(2, 1), reward=normal(2, 1))),
    ),
    "brio_ranking": Reference(
        "sequence/brio_ranking",
        brio_ranking,
        (
            case(score=normal(3, 4)),
            case(score=normal(2, 6), parameters={"margin": 0.3}),
            case(score=normal(5, 2), parameters={"margin": 1.0}),
        ),
        at=(case(score=full(1.0, 2, 3), parameters={"margin": 0.0}), case(score=normal(2, 1))),
    ),
    "structured_hinge": Reference(
        "sequence/structured_hinge",
        structured_hinge,
        (
            case(score=normal(5, 4), cost=uniform(0, 1, 5, 4), gold=labels(4, 5)),
            case(score=normal(3, 6), cost=uniform(0, 3, 3, 6), gold=labels(6, 3)),
            case(score=normal(4, 2), cost=uniform(0, 0.1, 4, 2), gold=labels(2, 4)),
        ),
        mutants=(
            ("score + cost", "score - cost"),
            ("max(", "min("),
            ("- score", "+ score"),
            ("k = gold", "k = (gold + 1) % size(k)"),
            ("mean(per)", "sum(per)"),
        ),
        at=(case(score=full(1.0, 2, 3), cost=full(0.0, 2, 3), gold=labels(3, 2)),),
    ),
    "ctc": Reference(
        "sequence/ctc",
        ctc,
        (
            aligned(4, 2, 3, 2, [4, 3], [2, 1]),
            aligned(8, 3, 5, 3, [8, 6, 7], [3, 0, 2], blank=4),
            aligned(6, 2, 4, 2, [5, 6], [2, 2], blank=2),
        ),
        wrt=("logits",),
        at=(repeated, aligned(1, 1, 3, 1, [1], [1])),
    ),
    "crf_nll": Reference(
        "sequence/crf_nll",
        crf_nll,
        (chains(2, 4, 3, [4, 2]), chains(3, 3, 2, [1, 3, 2]), chains(1, 2, 4, [2])),
        at=(chains(2, 1, 3, [1, 1]),),
    ),
    "transducer": Reference(
        "sequence/transducer",
        transducer,
        (
            lattices(2, 3, 2, 4, [3, 2], [2, 1]),
            lattices(2, 2, 3, 3, [2, 1], [3, 0], blank=2),
            lattices(1, 4, 1, 2, [3], [1], blank=1),
        ),
        wrt=("logits",),
        at=(lattices(1, 1, 1, 3, [1], [0]),),
    ),
}
