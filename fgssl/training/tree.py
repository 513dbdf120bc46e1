"""Sum in the order of a balanced binary tree over its terms, whichever process adds which of them."""

from torch import Tensor


class BalancedSum:
    """Running sum of vectors in the order of a balanced binary tree.

    It adds the first to the second, the third to the fourth, then these two sums, and so on. With 2^k consecutive terms
    on each of 2^m processes, `total` here and `World.tree_sum` over the processes form one tree of 2^(k + m) leaves. At
    most log2 of the number of terms are kept.
    """

    def __init__(self) -> None:
        self._partial: list[tuple[int, Tensor]] = []  # (number of terms, their sum), numbers falling

    def add(self, term: Tensor) -> None:
        """Add `term`, whose memory the sum overwrites later."""
        terms = 1
        while self._partial and self._partial[-1][0] == terms:
            terms, term = 2 * terms, self._partial.pop()[1].add_(term)
        self._partial.append((terms, term))

    def total(self) -> Tensor:
        """Return the sum of all terms; raise an `IndexError` if there are none."""
        _, total = self._partial.pop()
        while self._partial:
            total = self._partial.pop()[1].add_(total)
        return total
