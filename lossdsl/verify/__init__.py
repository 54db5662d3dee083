"""Verification: what is proved, refuted or unknown of a loss."""

from lossdsl.verify.check import Interrupted, judged, verify_program
from lossdsl.verify.report import report_json
from lossdsl.verify.verdict import CRITERIA

__all__ = ["CRITERIA", "Interrupted", "judged", "report_json", "verify_program"]
