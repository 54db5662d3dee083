"""Verification: what is proved, refuted or unknown of a loss."""

from lossdsl.verify.check import CRITERIA, verify_program
from lossdsl.verify.report import report_json

__all__ = ["CRITERIA", "report_json", "verify_program"]
