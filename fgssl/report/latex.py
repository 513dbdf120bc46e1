"""Layout of a sweep as LaTeX."""

import re
from collections.abc import Iterable

from fgssl.report.layout import MARKER, OTHER_PROTOCOL, Layout, emphasized


def latex(layout: Layout) -> str:
    """Return the layout as a LaTeX `table` environment, which needs the packages booktabs and graphicx.

    A tabular that is wider than the line is scaled down to it.
    """
    parts = [r"\begin{table}", r"\centering", rf"\caption{{{_latex_text(layout.title)}}}"]
    for block in layout.blocks:
        parts += [rf"\par\medskip {_latex_text(block.caption)}:\par\smallskip"]
        parts += [rf"\sbox0{{\begin{{tabular}}{{l{'r' * (len(block.header) - 1)}}}", r"\toprule"]
        lines = emphasized(
            block, lambda text: rf"\textbf{{{text}}}", lambda text: rf"\underline{{{text}}}", _latex_text
        )
        parts += [_latex_line(map(_latex_text, block.header)), r"\midrule", *map(_latex_line, lines)]
        parts += [r"\bottomrule", r"\end{tabular}}", _TO_LINE]
    parts += [rf"\par\smallskip\footnotesize {_latex_text(note)}" for note in layout.notes]
    return "\n".join([*parts, r"\end{table}"]) + "\n"


_TO_LINE = r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"


def _latex_line(line: Iterable[str]) -> str:
    return " & ".join(line) + r" \\"


_GREEK = (
    *("alpha", "beta", "gamma", "delta", "varepsilon", "eta", "theta", "kappa", "lambda", "mu", "nu", "pi", "rho"),
    *("sigma", "tau", "varphi", "chi", "psi", "omega"),
)
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "[": "{[}",  # at the start of a line it would be an argument of the line before
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "`": r"\textasciigrave{}",
        "−": "$-$",
        "\N{WORD JOINER}": "{}",
        "±": r"$\pm$",
        "–": "--",
        MARKER: r"\dag{}",
        OTHER_PROTOCOL: r"\ddag{}",
        "∞": r"$\infty$",
        "×": r"$\times$",
        **{letter: rf"$\{name}$" for letter, name in zip("αβγδεηθκλμνπρστφχψω", _GREEK, strict=True)},
    }
)


def _latex_text(text: str) -> str:
    minus = re.sub(r"(?<![\w-])-(?=\d)", "−", text)
    return re.sub("-(?=-)", "-\N{WORD JOINER}", minus).translate(_LATEX)  # -- would become a dash
