"""How the elements of the per-sample gradients are distributed over the values of their parameters."""

from collections.abc import Iterable, Sequence

from cockpitlite.instrument import Histogram, Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Elements, PerSampleElements, Tally, ascending, symmetric_log_edges

BINS = 31


class GradHist2d(Instrument):
    """A joint histogram of the elements g_nj and the parameters θ_j they belong to, per tensor and in total.

    A gradient that only acts on parameters of some size, or pushes all of them outwards, shows as a tilted or split
    cloud (Schneider et al. 2021, arXiv:2102.06604). Axis 0 is the gradient, axis 1 the parameter. Bins, counts and
    their errors are those of ``grad_hist_1d``, by powers of four; ``edges`` gives your own for both axes. Costs one
    pass over the elements.
    """

    panel = Panel(
        "Gradient elements × parameters",
        "gradients",
        kind="joint",
        axes=("gradient element", "parameter"),
        readings=("grad_hist_2d", "grad_hist_2d_error", "grad_hist_2d_outside", "grad_hist_2d_nonfinite"),
        help="Which gradients belong to which parameter values, on symmetric logarithmic axes.",
    )
    name = "grad_hist_2d"
    preset = "full"
    order = 40

    def __init__(self, edges: tuple[Sequence[float], Sequence[float]] | None = None, exact: bool = False) -> None:
        """Count into bins with these ``edges`` (of both axes), or adapting ones; all elements where ``exact``."""
        if edges is not None and len(edges) != 2:
            raise ValueError(f"edges are two sequences, of the gradient and of the parameter; got {len(edges)}")
        self.edges = None if edges is None else [ascending(axis) for axis in edges]
        self.exact = exact

    def read(self, elements: PerSampleElements) -> Readings:
        """Return the counts, and what they leave out."""
        if self.edges is None:
            edges = [
                symmetric_log_edges((found.values for found in self._visited(elements)), BINS, factor=4),
                symmetric_log_edges((found.weights for found in self._visited(elements)), BINS, factor=4),
            ]
        else:
            edges = [elements.as_edges(axis) for axis in self.edges]
        tally = Tally(len(elements.names), edges)
        for found in self._visited(elements):
            tally.add(found.runs, [found.values, found.weights])
        return {
            self.name: Histogram(elements.names, tally.counts, tally.edges, tally.total),
            f"{self.name}_error": tally.error(elements.total),
            f"{self.name}_outside": tally.outside,
            f"{self.name}_nonfinite": tally.nonfinite,
        }

    def _visited(self, elements: PerSampleElements) -> Iterable[Elements]:
        return elements.everything() if self.exact else elements.drawn
