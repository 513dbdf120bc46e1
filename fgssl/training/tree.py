"""A sum whose order of additions is a balanced binary tree over its terms, whoever adds which of them."""

from torch import Tensor


class BalancedSum:
    """Adds up vectors as they come: the first with the second, the third with the fourth, then these two, and so on.

    With 2^k consecutive terms on each of 2^m processes, `total` here and `World.tree_sum` over the processes are one
    tree of 2^(k + m) leaves. Keeps at most log2 of the number of terms.
    """

    def __init__(self) -> None:
        self._partial: list[tuple[int, Tensor]] = []  # (terms, their sum), fewer and fewer terms

    def add(self, term: Tensor) -> None:
        """Add `term`, which is this sum's own from now on."""
        terms = 1
        while self._partial and self._partial[-1][0] == terms:
            terms, term = 2 * terms, self._partial.pop()[1].add_(term)
        self._partial.append((terms, term))

    def total(self) -> Tensor:
        """Return the sum of all terms; raise `IndexError` where there was none."""
        _, total = self._partial.pop()
        while self._partial:
            total = self._partial.pop()[1].add_(total)
        return total
