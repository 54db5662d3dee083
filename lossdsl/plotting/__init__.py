"""`lossdsl plot`: loss and gradient against the residual or the margin, by the reference interpreter."""

from lossdsl.plotting.curve import Curve, sweep
from lossdsl.plotting.draw import plot
from lossdsl.plotting.kinks import Kink
from lossdsl.plotting.sample import CannotPlot

__all__ = ["CannotPlot", "Curve", "Kink", "plot", "sweep"]
