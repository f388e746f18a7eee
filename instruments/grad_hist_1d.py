"""How the elements of the per-sample gradients are distributed."""

from collections.abc import Iterable, Sequence

from cockpitlite.instrument import Histogram, Instrument, Readings
from cockpitlite.panel import Panel
from cockpitlite.statistics import Elements, PerSampleElements, Tally, ascending, symmetric_log_edges

BINS = 61


class GradHist1d(Instrument):
    """A histogram of the elements of g_n, per tensor and in total (Schneider et al. 2021, arXiv:2102.06604).

    Healthy gradients have a smooth, single-peaked and roughly symmetric distribution; all mass in the middle bin says
    that nothing reaches the weights, mass far out that single samples dominate. The bins are symmetric-logarithmic,
    powers of two below the largest magnitude of what is counted, or have ``edges`` of your own. Counts are exact: of
    all elements with ``exact`` or where there are at most 2^14, else of 2^14 drawn ones, and then
    ``grad_hist_1d_error`` is the largest standard error of a bin's share in the total: at most 0.4 %. With ``samples=``
    all of this is of the samples looked at, and says nothing of how they differ from the others. A tensor has its due
    share of those, and no fewer than one of every sample; of its own K elements, the sum of its counts, a bin with the
    share p has the standard error √(p(1 − p)/K). Of what is counted, elements beyond the edges and those that are not
    finite are counted by themselves. Costs one pass over the elements.
    """

    panel = Panel(
        "Gradient elements",
        "gradients",
        kind="histogram",
        readings=("grad_hist_1d", "grad_hist_1d_error", "grad_hist_1d_outside", "grad_hist_1d_nonfinite"),
        help="Distribution of the elements of the per-sample gradients, on a symmetric logarithmic axis.",
    )
    name = "grad_hist_1d"
    preset = "economy"
    order = 39

    def __init__(self, edges: Sequence[float] | None = None, exact: bool = False) -> None:
        """Count into bins with these ascending ``edges``, or adapting ones; all elements where ``exact``."""
        self.edges = None if edges is None else ascending(edges)
        self.exact = exact

    def read(self, elements: PerSampleElements) -> Readings:
        """Return the counts, and what they leave out."""
        if self.edges is None:
            edges = symmetric_log_edges((found.values for found in self._visited(elements)), BINS, factor=2)
        else:
            edges = elements.as_edges(self.edges)
        tally = Tally(len(elements.names), [edges])
        for found in self._visited(elements):
            tally.add(found.runs, [found.values])
        return {
            self.name: Histogram(elements.names, tally.counts, tally.edges, tally.total),
            f"{self.name}_error": tally.error(elements.total),
            f"{self.name}_outside": tally.outside,
            f"{self.name}_nonfinite": tally.nonfinite,
        }

    def _visited(self, elements: PerSampleElements) -> Iterable[Elements]:
        return elements.everything() if self.exact else elements.drawn
