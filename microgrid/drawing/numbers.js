// @ts-check
// The functions that JavaScript's Math lacks, or gives otherwise than IEEE 754 has them.
// The rows of the table of operations name them: javascript="mg.erf({0})".
"use strict";

const mg = (() => {
  const BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330];

  /** @param {number} n */
  function factorial(n) {
    let product = 1;
    for (let k = 2; k <= n; k++) product *= k;
    return product;
  }

  // C and Python have pow(1, nan) = pow(1, ±inf) = pow(−1, ±inf) = 1; JavaScript has nan.
  /** @param {number} x @param {number} n */
  function pow(x, n) {
    if (x === 1 || (x === -1 && Math.abs(n) === Infinity)) return 1;
    return Math.pow(x, n);
  }

  /** @param {number} a @param {number} b */
  function maximum(a, b) {
    return a > b || a !== a ? a : b;
  }

  /** @param {number} a @param {number} b */
  function minimum(a, b) {
    return a < b || a !== a ? a : b;
  }

  /** @param {number} x */
  function sign(x) {
    return x > 0 ? 1 : x < 0 ? -1 : x !== x ? x : 0;
  }

  /** @param {number} a @param {number} b */
  function copysign(a, b) {
    if (b !== b) return b;
    return b < 0 || Object.is(b, -0) ? -Math.abs(a) : Math.abs(a);
  }

  // Of two whole numbers the even one, and the sign of zero stays.
  /** @param {number} x */
  function round(x) {
    const up = Math.round(x);
    return copysign(up - x === 0.5 && up % 2 !== 0 ? up - 1 : up, x);
  }

  // As Python rounds: the exact decimal expansion of x counts. So x·10^digits is a fraction of whole numbers.
  /** @param {number} x @param {number} digits */
  function roundTo(x, digits) {
    if (x === 0 || !Number.isFinite(x)) return x;
    const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))) - 60, -1074);
    const ten = 10n ** BigInt(Math.abs(digits));
    const two = 2n ** BigInt(Math.abs(exponent));
    // |x| = mantissa · 2^exponent, scaled in two steps, as 2^−exponent may be no float
    const mantissa = BigInt(Math.abs(x) * Math.pow(2, Math.floor(-exponent / 2)) * Math.pow(2, Math.ceil(-exponent / 2)));
    const top = mantissa * (exponent > 0 ? two : 1n) * (digits > 0 ? ten : 1n);
    const bottom = (exponent > 0 ? 1n : two) * (digits > 0 ? 1n : ten);
    let whole = top / bottom;
    const twice = 2n * (top % bottom);
    if (twice > bottom || (twice === bottom && whole % 2n === 1n)) whole += 1n;
    return copysign(Number(`${whole}e${-digits}`), x);
  }

  // Python's a % b and a // b.
  /** @param {number} a @param {number} b */
  function mod(a, b) {
    const rest = a % b;
    if (rest === 0) return copysign(0, b);
    return rest < 0 === b < 0 ? rest : rest + b;
  }

  /** @param {number} a @param {number} b */
  function floorDivide(a, b) {
    if (b === 0) return a / b;
    const quotient = (a - mod(a, b)) / b;
    if (quotient === 0 || quotient !== quotient) return a % b === a && a !== 0 && a < 0 !== b < 0 ? -1 : copysign(quotient, a / b);
    return round(quotient);
  }

  // IEEE 754's: between |a| mod |b| and its complement, which is nearer; of two the one whose quotient is even.
  /** @param {number} a @param {number} b */
  function remainder(a, b) {
    if (Math.abs(b) === Infinity && Number.isFinite(a)) return a;
    const size = Math.abs(a);
    const divisor = Math.abs(b);
    const rest = size % divisor;
    const complement = divisor - rest;
    const nearest = rest < complement ? rest : rest > complement ? -complement : rest - 2 * ((0.5 * (size - rest)) % divisor);
    return copysign(1, a) * nearest;
  }

  /** @param {number} x */
  function sigmoid(x) {
    if (x >= 0) return 1 / (1 + Math.exp(-x));
    const e = Math.exp(x);
    return e / (1 + e);
  }

  /** @param {number} x */
  function sigmoidSlope(x) {
    const y = sigmoid(x);
    return y < 0.75 ? y * (1 - y) : y * sigmoid(-x);
  }

  /** @param {number} x */
  function sech2(x) {
    const c = Math.cosh(x);
    return 1 / (c * c);
  }

  /** @param {number} a @param {number} b */
  function direction(a, b) {
    if (Math.abs(a) === Infinity && Math.abs(b) < Infinity) return Math.sign(a);
    return a / Math.hypot(a, b);
  }

  // xⁿ·logᵏ x, which is 0 at x = 0 for n ≥ 0, and at x = ∞ for n < 0.
  /** @param {number} k @param {number} x @param {number} n */
  function powerLog(k, x, n) {
    if (x === Infinity && n < 0) return 0;
    if (x === 0 && n === n) return n >= 0 ? 0 : Math.pow(Math.abs(x), n) * (k % 2 ? -1 : 1);
    return pow(x, n) * Math.pow(Math.log(x), k);
  }

  // exp(−scale·x²): x² is split in two, because its rounding alone would cost three digits in the tail.
  /** @param {number} x @param {number} scale */
  function gaussian(x, scale) {
    if (!(Math.abs(x) < 60)) return x === x ? 0 : x;
    const high = Math.round(x * 16) / 16;
    return Math.exp(-scale * high * high) * Math.exp(-scale * (x - high) * (x + high));
  }

  // exp(x²)·erfc(x) for x ≥ 2, by its continued fraction (Abramowitz & Stegun 7.1.14).
  /** @param {number} x */
  function scaledErfc(x) {
    let tail = x;
    for (let k = 60; k >= 1; k--) tail = x + (0.5 * k) / tail;
    return 1 / (tail * Math.sqrt(Math.PI));
  }

  // Near 0 by the series of positive terms (Abramowitz & Stegun 7.1.6), so that no digit cancels.
  /** @param {number} x @returns {number} */
  function erf(x) {
    if (Math.abs(x) >= 2) return x > 0 ? 1 - erfc(x) : erfc(-x) - 1;
    let term = 1;
    let sum = 1;
    for (let n = 1; term > 1e-18 * sum; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return x === x ? (2 / Math.sqrt(Math.PI)) * x * gaussian(x, 1) * sum : x;
  }

  /** @param {number} x @returns {number} */
  function erfc(x) {
    if (x < 0) return 2 - erfc(-x);
    if (x < 2) return 1 - erf(x);
    return x === x ? scaledErfc(x) * gaussian(x, 1) : x;
  }

  /** @param {number} x */
  function gelu(x) {
    const z = x * Math.SQRT1_2;
    if (x === -Infinity) return -0;
    return x * (z > -2 ? 0.5 * erfc(-z) : x === x ? 0.5 * scaledErfc(-z) * gaussian(x, 0.5) : x);
  }

  // The n-th derivative of cot at πx over πⁿ: a polynomial in c = cot(πx), as c' = −(1 + c²).
  /** @param {number} n @param {number} x */
  function cotangentDerivative(n, x) {
    const c = 1 / Math.tan(Math.PI * (x - Math.round(x)));
    let coefficients = [0, 1];
    for (let step = 0; step < n; step++) {
      const next = new Array(coefficients.length + 1).fill(0);
      coefficients.forEach((a, k) => {
        if (k === 0) return;
        next[k - 1] -= k * a;
        next[k + 1] -= k * a;
      });
      coefficients = next;
    }
    return coefficients.reduceRight((total, a) => total * c + a);
  }

  // The n-th derivative of digamma (Abramowitz & Stegun 6.3, 6.4): by reflection left of zero, then by
  // recurrence up to where the asymptotic series is exact.
  /** @param {number} n @param {number} x @returns {number} */
  function polygamma(n, x) {
    if (x !== x || x === -Infinity) return NaN;
    if (x === Infinity) return n === 0 ? Infinity : 0;
    if (x <= 0 && x === Math.floor(x)) {
      if (n % 2) return Infinity;
      return x === 0 ? -1 / x : NaN;
    }
    const sign = n % 2 === 0 ? 1 : -1;
    if (x < 0) return sign * polygamma(n, 1 - x) - Math.pow(Math.PI, n + 1) * cotangentDerivative(n, x);
    const terms = [];
    for (; x < 16 + n; x++) terms.push(factorial(n) / Math.pow(x, n + 1));
    terms.push(n ? factorial(n - 1) / Math.pow(x, n) : -Math.log(x), factorial(n) / (2 * Math.pow(x, n + 1)));
    BERNOULLI.forEach((b, i) => {
      const k = i + 1;
      terms.push((b * factorial(2 * k + n - 1)) / (factorial(2 * k) * Math.pow(x, 2 * k + n)));
    });
    return -sign * sumExactly(terms);
  }

  // Kahan's sum with Neumaier's improvement: digamma's terms nearly cancel at its zero.
  /** @param {number[]} terms */
  function sumExactly(terms) {
    let sum = 0;
    let lost = 0;
    for (const term of terms) {
      const next = sum + term;
      lost += Math.abs(sum) >= Math.abs(term) ? sum - next + term : term - next + sum;
      sum = next;
    }
    return lost === lost ? sum + lost : sum;
  }

  // log Γ(2 + z) for |z| ≤ ½ is a Taylor series without constant term: exact where log Γ crosses zero.
  const AROUND_TWO = Array.from({ length: 30 }, (_, i) => polygamma(i, 2) / factorial(i + 1));

  /** @param {number} x @returns {number} */
  function lgamma(x) {
    if (x !== x) return x;
    if (Math.abs(x) === Infinity || (x <= 0 && x === Math.floor(x))) return Infinity;
    if (Math.abs(x) < 1e-16) return -Math.log(Math.abs(x));
    if (x < 0) {
      const distance = Math.abs(x - Math.round(x));
      return Math.log(Math.PI) - Math.log(Math.sin(Math.PI * distance)) - lgamma(1 - x);
    }
    if (x < 0.5) return lgamma(1 + x) - Math.log(x);
    if (x < 1.5) return aroundTwo(x - 1) - Math.log1p(x - 1);
    if (x < 10) {
      let product = 1;
      for (; x > 2.5; x--) product *= x - 1;
      return aroundTwo(x - 2) + Math.log(product);
    }
    let series = 0;
    BERNOULLI.forEach((b, i) => (series += b / ((2 * i + 2) * (2 * i + 1) * Math.pow(x, 2 * i + 1))));
    return (x - 0.5) * (Math.log(x) - 1) - 0.5 + 0.5 * Math.log(2 * Math.PI) + series;
  }

  // The product of x − 1, x − 2, …, down to near 2, or by reflection: log Γ would lose digits where Γ is large.
  /** @param {number} x @returns {number} */
  function gamma(x) {
    if (x === 0) return 1 / x;
    if (x < 0) {
      if (x === Math.floor(x)) return NaN;
      const nearest = Math.round(x);
      const sine = Math.sin(Math.PI * (x - nearest)) * (nearest % 2 === 0 ? 1 : -1);
      return Math.PI / sine / (-x * gamma(-x));
    }
    if (x > 172) return Infinity;
    let factor = 1;
    for (; x > 2.5; x--) factor *= x - 1;
    for (; x < 1.5; x++) factor /= x;
    return factor * Math.exp(aroundTwo(x - 2));
  }

  /** @param {number} z */
  function aroundTwo(z) {
    return AROUND_TWO.reduceRight((sum, coefficient) => (sum + coefficient) * z, 0);
  }

  return {
    pow, powerLog, direction, maximum, minimum, sign, copysign, round, roundTo, mod, floorDivide, remainder,
    sigmoid, sigmoidSlope, sech2, erf, erfc, gelu, gamma, polygamma, lgamma,
  };
})();
