"""Count statements: a loss of the catalogue beside the library's own code. `make references` writes `statements.json`.

A statement of Python is a node `ast.stmt`, docstrings, imports and `overload`s left aside; of a function its own text counts
and that of the functions of the same library which OWN names beside it, of a class its own methods. A statement of a
`.loss` file is a line of the loss and of its functions; docstring and claims are left aside. Both heads count.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import textwrap
from importlib.metadata import version
from pathlib import Path

OWN = {
    "arcface": ["pytorch_metric_learning.losses.arcface_loss:ArcFaceLoss"],
    "bending_energy": ["monai.losses.deform:BendingEnergyLoss"],
    "cauchy": ["kornia.losses.cauchy:cauchy_loss"],
    "circle": ["pytorch_metric_learning.losses.circle_loss:CircleLoss"],
    "cldice": ["monai.losses.cldice:SoftclDiceLoss", "monai.losses.cldice:soft_skel"],
    "contrastive": ["pytorch_metric_learning.losses.contrastive_loss:ContrastiveLoss"],
    "cosface": ["pytorch_metric_learning.losses.cosface_loss:CosFaceLoss"],
    "crps_gaussian": ["scoringrules.core.crps._closed:normal"],
    "ctc": ["optax.losses:ctc_loss", "optax.losses:ctc_loss_with_forward_probs"],
    "dice": ["monai.losses.dice:DiceLoss"],
    "diffusion_smoothness": ["monai.losses.deform:DiffusionLoss"],
    "focal": ["optax.losses:sigmoid_focal_loss"],
    "focal_tversky": ["kornia.losses.tversky:tversky_loss"],
    "geman_mcclure": ["kornia.losses.geman_mcclure:geman_mcclure_loss"],
    "hinge": ["optax.losses:hinge_loss"],
    "lifted_structure": ["pytorch_metric_learning.losses.lifted_structure_loss:LiftedStructureLoss"],
    "listnet": ["optax.losses:ranking_softmax_loss"],
    "lncc": ["monai.losses.image_dissimilarity:LocalNormalizedCrossCorrelationLoss"],
    "log_cosh": ["optax.losses:log_cosh"],
    "generalized_dice": ["monai.losses.dice:GeneralizedDiceLoss"],
    "hausdorff_dt": ["monai.losses.hausdorff_loss:HausdorffDTLoss"],
    "lovasz_hinge": ["kornia.losses.lovasz_hinge:lovasz_hinge_loss"],
    "lovasz_softmax": ["kornia.losses.lovasz_softmax:lovasz_softmax_loss"],
    "ms_ssim": ["kornia.losses.ms_ssim:MS_SSIMLoss"],
    "multi_similarity": ["pytorch_metric_learning.losses.multi_similarity_loss:MultiSimilarityLoss"],
    "mutual_information": ["monai.losses.image_dissimilarity:GlobalMutualInformationLoss"],
    "n_pair": ["pytorch_metric_learning.losses.n_pairs_loss:NPairsLoss"],
    "nt_xent": ["pytorch_metric_learning.losses.ntxent_loss:NTXentLoss"],
    "poly1": ["optax.losses:poly_loss_cross_entropy"],
    "proxy_anchor": ["pytorch_metric_learning.losses.proxy_anchor_loss:ProxyAnchorLoss"],
    "proxy_nca": ["pytorch_metric_learning.losses.proxy_losses:ProxyNCALoss"],
    "pseudo_huber": ["kornia.losses.charbonnier:charbonnier_loss"],
    "smooth_l1": ["torch.nn.functional:smooth_l1_loss"],
    "sparsemax": ["optax.losses:multiclass_sparsemax_loss"],
    "ssim": ["kornia.losses.ssim:ssim_loss", "kornia.metrics.ssim:ssim"],
    "sup_con": ["pytorch_metric_learning.losses.supcon_loss:SupConLoss"],
    "total_variation": ["kornia.losses.total_variation:total_variation"],
    "triplet": ["pytorch_metric_learning.losses.triplet_margin_loss:TripletMarginLoss"],
    "gaussian_nll": ["torch.nn.functional:gaussian_nll_loss"],
    "poisson": ["torch.nn.functional:poisson_nll_loss"],
    "tversky": ["monai.losses.tversky:TverskyLoss"],
    "vicreg": ["pytorch_metric_learning.losses.vicreg_loss:VICRegLoss"],
    "welsch": ["kornia.losses.welsch:welsch_loss"],
}


def statements(tree: ast.AST) -> int:
    """How many statements a piece of Python has."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            count -= 1
        if isinstance(node, ast.stmt) and not isinstance(node, (ast.Import, ast.ImportFrom)):
            count += 1
    return count


def of_library(places: list[str]) -> int:
    total = 0
    for place in places:
        module, _, name = place.partition(":")
        found = inspect.unwrap(getattr(importlib.import_module(module), name))
        total += statements(ast.parse(textwrap.dedent(inspect.getsource(found))))
    return total


def main() -> None:
    rows = {}
    for name, places in sorted(OWN.items()):
        package = {"torch.nn": "torch"}.get(places[0].partition(".functional")[0], places[0].split(".")[0])
        release = version(package.replace("_", "-")).partition("+")[0]
        rows[name] = {"library": f"{package} {release}", "code": places, "statements": of_library(places)}
    target = Path(__file__).with_name("statements.json")
    target.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{len(rows)} losses: {target.name}")


if __name__ == "__main__":
    main()
