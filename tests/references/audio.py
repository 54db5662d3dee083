"""References of losses of audio, in plain torch."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F

from references.record import Case, Reference, case, full, normal

EPS = 2.220446049250313e-16


def ratio(est: torch.Tensor, ref: torch.Tensor, eps: float) -> torch.Tensor:
    """SI-SDR of one signal in decibel, by projection on the reference."""
    target = ref * (torch.dot(est, ref) + eps) / (torch.dot(ref, ref) + eps)
    noise = est - target
    return 10 * torch.log10((torch.dot(target, target) + eps) / (torch.dot(noise, noise) + eps))


def si_sdr(estimate: torch.Tensor, reference: torch.Tensor, zero_mean: bool = False, eps: float = EPS) -> torch.Tensor:
    if zero_mean:
        estimate = estimate - estimate.mean(1, keepdim=True)
        reference = reference - reference.mean(1, keepdim=True)
    return -torch.stack([ratio(e, r, eps) for e, r in zip(estimate, reference)]).mean()


def pit_si_sdr(estimate: torch.Tensor, reference: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    rows = []
    for e, r in zip(estimate, reference):
        every = [
            torch.stack([ratio(e[i], r[j], eps) for i, j in enumerate(order)]).mean()
            for order in itertools.permutations(range(2))
        ]
        rows.append(torch.stack(every).amax())
    return -torch.stack(rows).mean()


def multi_resolution_stft(x: torch.Tensor, y: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for n, hop, width in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        window = torch.hann_window(width, dtype=x.dtype)
        spectra = [torch.stft(a, n, hop, width, window, return_complex=True) for a in (x, y)]
        u, v = (s.abs().square().clamp(min=eps).sqrt() for s in spectra)
        total = total + torch.linalg.norm(v - u) / torch.linalg.norm(v) + F.l1_loss(u.log(), v.log())
    return total / 3


def signals(*shape: int, shift: float = 0.0, **p: float) -> Case:
    return case(estimate=normal(*shape, shift=shift), reference=normal(*shape, shift=shift), parameters=p)


REFERENCES = {
    "si_sdr": Reference(
        "audio/si_sdr",
        si_sdr,
        (signals(3, 8), signals(2, 5, shift=0.5, zero_mean=True), signals(1, 4, eps=0.1)),
        at=(case(estimate=normal(2, 4), reference=full(0.0, 2, 4)),),
    ),
    "multi_resolution_stft": Reference(
        "audio/multi_resolution_stft",
        multi_resolution_stft,
        (
            case(x=normal(2, 1300), y=normal(2, 1300)),
            case(x=normal(1, 1100), y=normal(1, 1100, scale=3.0)),
            case(x=normal(1, 1500), y=normal(1, 1500), parameters={"eps": 100.0}),
        ),
        (
            ("1024, 120, 600", "1024, 100, 600"),
            ("n // 2 + 1", "n // 2"),
            ("(1 - cos", "(2 - cos"),
            ("/ norm(mv)", "/ norm(mu)"),
            ("i - n // 2", "i - n // 2 + 1"),
        ),
    ),
    "pit_si_sdr": Reference(
        "audio/pit_si_sdr", pit_si_sdr, (signals(4, 2, 8), signals(3, 2, 5, eps=0.1), signals(2, 2, 4, shift=0.5))
    ),
}
