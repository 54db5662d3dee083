"""Verification: what is proved, refuted or unknown of a loss."""

from lossdsl.verify.check import CRITERIA, Interrupted, judged, verify_program
from lossdsl.verify.report import report_json

__all__ = ["CRITERIA", "Interrupted", "judged", "report_json", "verify_program"]
