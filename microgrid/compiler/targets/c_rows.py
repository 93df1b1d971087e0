"""The rows of the table as C99: operators, functions of <math.h>, and small functions of our own.

What is not here is printed as its ``expansion`` says: in one row in place, in several as a function of its name.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from microgrid import ops
from microgrid.compiler.ir import NUMBER
from microgrid.compiler.targets.native.loop_ir import Let, Operand
from microgrid.ops import Op, ieee
from microgrid.ops.expansion import expand
from microgrid.ops.op import COMPARISON_OPERATORS

FUNCTIONS = {
    **{name: name for name in (
        "exp", "expm1", "exp2", "log", "log1p", "log2", "sqrt", "cbrt", "hypot", "sin", "cos", "tan", "sinh", "cosh",
        "tanh", "erf", "erfc", "lgamma", "floor", "ceil", "trunc", "rint", "fmod", "log10",
    )},
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "gamma": "tgamma", "abs": "fabs", "c_power": "pow", "ieee_remainder": "remainder",
}  # fmt: skip
"""Functions of <math.h>, by the ``ufunc`` of their row."""

OPERATORS = {
    "add": "+", "subtract": "-", "negative": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "mod": "%",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
"""Operators of Python, by the ``ufunc`` of a row that is one."""

OWN = {
    "sign": """
static REAL NAME_sign(REAL x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x;
}
""",
    "maximum": """
static REAL NAME_maximum(REAL a, REAL b) /* nan if either is */
{
    return a > b || a != a ? a : b;
}
""",
    "minimum": """
static REAL NAME_minimum(REAL a, REAL b) /* nan if either is */
{
    return a < b || a != a ? a : b;
}
""",
    "copysign_or_nan": """
static REAL NAME_copysign_or_nan(REAL a, REAL b)
{
    return b != b ? b : copysign@(a, b);
}
""",
    "floor_divide": """
static REAL NAME_floor_divide(REAL a, REAL b) /* Python's a // b; a / b where b is 0 */
{
    REAL rest = fmod@(a, b), quotient, whole;
    if (b == 0)
        return a / b;
    quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0))
        quotient -= 1;
    whole = floor@(quotient);
    if (quotient - whole > 0.5@)
        whole += 1;
    return quotient != 0 ? whole : copysign@(0, a / b);
}
""",
    "mod": """
static REAL NAME_mod(REAL a, REAL b) /* Python's a % b, which has the sign of b; nan where b is 0 */
{
    REAL rest = fmod@(a, b);
    if (rest == 0)
        return copysign@(0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}
""",
    "sigmoid": """
static REAL NAME_sigmoid(REAL x) /* 1 / (1 + exp(-x)) without overflow */
{
    const REAL e = exp@(-fabs@(x));
    return (x >= 0 ? 1 : e) / (1 + e);
}
""",
    "sigmoid_slope": """
static REAL NAME_sigmoid_slope(REAL x) /* sigmoid(x) * sigmoid(-x) */
{
    return 0.5@ / (1 + cosh@(x));
}
""",
    "sech2": """
static REAL NAME_sech2(REAL x) /* 1 / cosh(x)^2 */
{
    const REAL c = cosh@(x);
    return 1 / (c * c);
}
""",
    "direction": """
static REAL NAME_direction(REAL a, REAL b) /* a / sqrt(a^2 + b^2); 1 or -1 where only a is infinite */
{
    return isinf(a) && isfinite(b) ? copysign@(1, a) : a / hypot@(a, b);
}
""",
    "power_log": """
static REAL NAME_power_log(REAL k, REAL x, REAL n) /* x^n log(x)^k, where x^n decides at 0 and infinity */
{
    if (x == 0)
        return n < 0 ? pow@(fabs@(x), n) * pow@(-1, k) : n != n ? n : 0;
    return n < 0 && x > 0 && isinf(x) ? 0 : pow@(x, n) * pow@(log@(x), k);
}
""",
}
"""Functions that <math.h> lacks, of the constants of their row and then its arguments."""

_POLYGAMMA = """
/* The derivative number ORDER of digamma (Abramowitz & Stegun 6.3, 6.4): by reflection left of 0, then by recurrence
   up to where the asymptotic series is exact; the terms are added up with their rounding errors (Neumaier 1974). */
static REAL NAME_FUNCTION(REAL x)
{
    static const REAL series[] = {SERIES};
    static const REAL polynomial[] = {POLYNOMIAL};
    REAL sum = 0, rest = 0, reflected = 0, sign = SIGN;
    if (x != x || isinf(x))
        return x > 0 ? INFINITE : NOTHING;
    if (x < 0) {
        REAL c = tan@(PI * remainder@(x, 1));
        if (x == floor@(x))
            return POLE;
        c = fabs@(c) < SMALL ? copysign@(LARGE, c) : 1 / c;
        for (int k = 0; k <= ORDER + 1; k++)
            reflected = reflected * c + polynomial[k];
        reflected *= FACTOR;
        sign *= PARITY;
        x = 1 - x;
    }
    for (int k = -1; k < COUNT;) {
        REAL term, next;
        if (x < START) {
            term = FACTORIAL / pow@(x, ORDER + 1);
            x += 1;
        } else {
            term = k < 0 ? LEADING : series[k] * pow@(x, (REAL)-(k == 0 ? ORDER + 1 : ORDER + 2 * k));
            k++;
        }
        next = sum + term;
        rest += fabs@(sum) >= fabs@(term) ? (sum - next) + term : (term - next) + sum;
        sum = next;
    }
    return sign * (rest == rest ? sum + rest : sum) - reflected; /* rest is nan where sum is infinite */
}
"""


class Term(NamedTuple):
    """An expression: its text, and whether it is a mask, an ``int`` that is 0 or 1."""

    text: str
    mask: bool = False


class Rows:
    """The rows that a file uses, with the functions that they need.

    Attributes:
        functions: the texts of the functions, each after those that it calls.
    """

    def __init__(self, name: str, real: str) -> None:
        self.name = name
        self.real = real
        self.suffix = "f" if real == "float" else ""
        self.functions: dict[str, str] = {}
        self._names: dict[Op, str] = {}

    def number(self, x: float) -> str:
        """Return a number as a constant of this file's type."""
        with np.errstate(over="ignore"):
            typed = np.float32(x) if self.real == "float" else np.float64(x)
        if np.isnan(typed):
            return "NAN" if self.real == "float" else "(double)NAN"
        if np.isinf(typed):
            text = f"HUGE_VAL{self.suffix.upper()}"
        else:
            text = re.sub(r"^np\.\w+\((.*)\)$", r"\1", repr(abs(typed))) + self.suffix
        return f"(-{text})" if np.signbit(typed) else text

    def real_term(self, x: Term) -> str:
        """Return a term as a number."""
        return f"({self.real}){x.text}" if x.mask else x.text

    def call(self, own: str, arguments: Sequence[str]) -> str:
        """Return the call of a function of our own, which the file then has."""
        self.functions.setdefault(own, self._filled(OWN[own]))
        return f"{self.name}_{own}({', '.join(arguments)})"

    def apply(self, op: Op, operands: Sequence[Term]) -> Term:
        """Return a row of names and constants.

        Raises:
            NotImplementedError: for a row that C has no form of, naming it.
        """
        first, ufunc = operands[0], op.ufunc
        numbers = [self.real_term(x) for x in operands]
        if ufunc == "logical_not":
            return Term(f"!{first.text}" if first.mask else f"{first.text} == 0", True)
        if op is NUMBER or op is ops.stop_gradient:
            return Term(numbers[0])
        if ufunc == "where":
            condition = first.text if first.mask else f"{first.text} != 0"
            return Term(f"{condition} ? {numbers[1]} : {numbers[2]}")
        sign = op.operator or OPERATORS.get(ufunc, "")
        if sign in ("//", "%"):
            return Term(self.call("floor_divide" if sign == "//" else "mod", numbers))
        if sign:
            text = f" {sign} ".join(numbers) if op.arity > 1 else f"{sign}{numbers[0]}"
            return Term(text, sign in COMPARISON_OPERATORS)
        constants = [float(x) for x in op.recipe[1]] if op.recipe else []
        if ufunc in FUNCTIONS:
            return Term(f"{FUNCTIONS[ufunc]}{self.suffix}({', '.join(numbers)})")
        if ufunc in OWN:
            return Term(self.call(ufunc, [*map(self.number, constants), *numbers]))
        if ufunc in ("digamma", "polygamma"):
            return Term(f"{self._polygamma(int(constants[0]) if constants else 0)}({numbers[0]})")
        if op.expansion is not None:
            return self._expanded(op, operands)
        raise NotImplementedError(f"operation {op.name!r} has no form in C: {_reason(op)}")

    def lets(self, lets: Sequence[Let], names: dict[str, Term]) -> list[str]:
        """Return statements, each the declaration of a name, which is known from then on."""
        lines = []
        for let in lets:
            found = self.apply(let.op, [self.operand(x, names) for x in let.operands])
            lines.append(f"const {'int' if found.mask else self.real} {let.name} = {found.text};")
            names[let.name] = Term(let.name, found.mask)
        return lines

    def operand(self, x: Operand, names: dict[str, Term]) -> Term:
        """Return what an operand is called."""
        return names[x] if isinstance(x, str) else Term(self.number(x))

    def _filled(self, text: str, **values: str) -> str:
        values |= {"REAL": self.real, "NAME": self.name}
        return re.sub("[A-Z]{2,}", lambda word: values[word[0]], text).replace("@", self.suffix)

    def _polygamma(self, n: int) -> str:
        """Return the name of the derivative number n of digamma."""
        function = f"polygamma_{n}" if n else "digamma"
        if function not in self.functions:
            factorial, number = math.factorial, self.number
            series = [factorial(n) / 2]
            for k, bernoulli in enumerate(ieee.BERNOULLI, start=1):
                series.append(bernoulli * float(Fraction(factorial(2 * k + n - 1), factorial(2 * k))))
            self.functions[function] = self._filled(
                _POLYGAMMA,
                FUNCTION=function,
                ORDER=str(n),
                COUNT=str(len(series)),
                SERIES=", ".join(map(number, series)),
                POLYNOMIAL=", ".join(map(number, reversed(ieee.cotangent_polynomial(n)))),
                SIGN="1" if n % 2 else "-1",
                PARITY="-1" if n % 2 else "1",
                INFINITE="0" if n else "x",
                NOTHING=number(math.nan),
                POLE=number(math.inf if n % 2 else math.nan),
                PI=number(math.pi),
                LARGE=number(1e38 if self.real == "float" else 1e308),
                SMALL=number(1e-37 if self.real == "float" else 1e-307),
                FACTOR=number(math.pi ** (n + 1)),
                FACTORIAL=number(factorial(n)),
                START=number(16.0 + 3 * n),
                LEADING=f"{number(factorial(n - 1))} * pow@(x, {-n})" if n else "-log@(x)",
            )
        return f"{self.name}_{function}"

    def _expanded(self, op: Op, operands: Sequence[Term]) -> Term:
        """Return a row as its expansion says: in place if that is one row, else as a call of a function."""
        lets: list[Let] = []
        given = [f"x{k}" if op.arity > 1 else "x" for k in range(op.arity)]

        def record(row: Op, xs: Sequence[Operand]) -> str:
            lets.append(Let(f"t{len(lets) + 1}", row, tuple(xs)))
            return lets[-1].name

        result = expand(op, record, given)
        if isinstance(result, str) and result in given:
            return operands[given.index(result)]
        if not isinstance(result, str):
            return Term(self.number(result))
        lets = _needed(lets, result)
        if len(lets) == 1:
            names = dict(zip(given, operands, strict=True))
            return self.apply(lets[0].op, [self.operand(x, names) for x in lets[0].operands])
        if op not in self._names:
            name = re.sub(r"\W+", "_", op.name, flags=re.ASCII).strip("_") or "row"
            while name in self.functions or name in OWN or name.startswith(("digamma", "polygamma", "agrees")):
                name = f"my_{name}"
            names = {x: Term(x) for x in given}
            read = {x for let in lets for x in let.operands}
            lines = [f"(void){x};" for x in given if x not in read] + self.lets(lets[:-1], names)
            last = lets[-1]
            value = self.real_term(self.apply(last.op, [self.operand(x, names) for x in last.operands]))
            parameters = ", ".join(f"{self.real} {x}" for x in given)
            body = "\n".join(f"    {line}" for line in [*lines, f"return {value};"])
            self.functions[name] = (
                f"\nstatic {self.real} {self.name}_{name}({parameters}) /* {comment(op.name)} */\n{{\n{body}\n}}\n"
            )
            self._names[op] = f"{self.name}_{name}"
        return Term(f"{self._names[op]}({', '.join(map(self.real_term, operands))})")


def _needed(lets: Sequence[Let], result: str) -> list[Let]:
    """Return the statements on which a result depends."""
    needed, kept = {result}, []
    for let in reversed(lets):
        if let.name in needed:
            needed.update(x for x in let.operands if isinstance(x, str))
            kept.append(let)
    return kept[::-1]


def comment(text: str) -> str:
    """Return a text on one line that no comment ends in."""
    shown = "".join(x if x.isprintable() else " " for x in text)
    return shown.replace("*/", "* /").replace("/*", "/ *")


def _reason(op: Op) -> str:
    if op.recipe is not None and op.recipe[0] is ops.round_of:
        return "rounding to decimals takes exact conversions between bases; round a multiple of it to whole numbers"
    what = "its array= is a text for NumPy" if op.array else "only Python computes it"
    return f"{what}; give it an expansion=, which says it in rows of the table, or the ufunc= of such a row"
