"""What to write instead: rewrites that are proved equal, and that make a loss finite, or exact, where it was not."""

from lossdsl.advice.advise import Advice, Rewrite, advise

__all__ = ["Advice", "Rewrite", "advise"]
