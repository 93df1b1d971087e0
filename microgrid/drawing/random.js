// @ts-check
// The random numbers that Python and NumPy draw from a seed: initial weights come from random.Random, data and
// minibatches from numpy.random.default_rng.
"use strict";

/** Python's random.Random(seed): the Mersenne Twister (Matsumoto & Nishimura 1998), seeded by an array. */
class PythonRandom {
  /** @param {number} seed a whole number from 0 to 2³² − 1 */
  constructor(seed) {
    const state = (this.state = new Uint32Array(624));
    state[0] = 19650218;
    for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    let i = 1;
    const next = () => {
      if (++i < 624) return;
      state[0] = state[623];
      i = 1;
    };
    for (let k = 0; k < 624; k++, next()) state[i] = (state[i] ^ Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), 1664525)) + seed;
    for (let k = 0; k < 623; k++, next()) state[i] = (state[i] ^ Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), 1566083941)) - i;
    state[0] = 0x80000000;
    this.at = 624;
    this.spare = NaN;
  }

  bits() {
    const { state } = this;
    if (this.at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.at = 0;
    }
    let y = state[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** From 0 to 1, with 53 bits. */
  random() {
    const high = this.bits() >>> 5;
    return (high * 67108864 + (this.bits() >>> 6)) / 2 ** 53;
  }

  /** Normal with this standard deviation; numbers come in pairs (Box & Muller 1958). @param {number} deviation */
  gauss(deviation) {
    let z = this.spare;
    this.spare = NaN;
    if (z !== z) {
      const angle = this.random() * 2 * Math.PI;
      const radius = Math.sqrt(-2 * Math.log(1 - this.random()));
      z = Math.cos(angle) * radius;
      this.spare = Math.sin(angle) * radius;
    }
    return z * deviation;
  }
}

/** NumPy's default_rng(seed): PCG64 (O'Neill 2014), seeded by NumPy's SeedSequence. */
class NumpyRandom {
  /** @param {number} seed a whole number from 0 to 2³² − 1 */
  constructor(seed) {
    const words = seedSequence(seed, 4);
    this.increment = ((words[2] << 64n) | words[3]) * 2n + 1n;
    this.state = 0n;
    this.advance();
    this.state += (words[0] << 64n) | words[1];
    this.advance();
    /** @type {number} the upper half of a number of 64 bits, of which one of 32 was drawn; −1 for none */
    this.half = -1;
  }

  advance() {
    this.state = BigInt.asUintN(128, this.state * 0x2360ed051fc65da44385df649fccf645n + this.increment);
  }

  bits64() {
    this.advance();
    const mixed = BigInt.asUintN(64, this.state ^ (this.state >> 64n));
    const turn = this.state >> 122n;
    return BigInt.asUintN(64, (mixed >> turn) | (mixed << (64n - turn)));
  }

  bits32() {
    const half = this.half;
    this.half = -1;
    if (half >= 0) return half;
    const bits = this.bits64();
    this.half = Number(bits >> 32n);
    return Number(bits & 0xffffffffn);
  }

  random() {
    return Number(this.bits64() >> 11n) / 2 ** 53;
  }

  /** A whole number from 0 to `most`: as many bits as it has, drawn until they are not above it. @param {number} most */
  upTo(most) {
    const mask = 2 ** Math.ceil(Math.log2(most + 1)) - 1;
    for (;;) {
      const drawn = this.bits32() & mask;
      if (drawn <= most) return drawn;
    }
  }

  /** The numbers 0 to n − 1 in random order (Fisher & Yates). @param {number} n */
  permutation(n) {
    const order = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.upTo(i);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  /** Standard normal, by layers of equal area under the bell (Marsaglia & Tsang 2000). */
  normal() {
    for (;;) {
      const bits = this.bits64();
      const layer = Number(bits & 0xffn);
      const place = Number((bits >> 9n) & 0xfffffffffffffn); // 52 bits
      const sign = (bits >> 8n) & 1n ? -1 : 1;
      const x = (sign * place * LAYERS.edge[layer]) / 2 ** 52;
      if (place < LAYERS.inside[layer]) return x;
      if (layer > 0) {
        if ((LAYERS.height[layer - 1] - LAYERS.height[layer]) * this.random() + LAYERS.height[layer] < Math.exp(-0.5 * x * x)) return x;
        continue;
      }
      for (;;) {
        const beyond = -Math.log1p(-this.random()) / TAIL;
        const y = -Math.log1p(-this.random());
        if (2 * y > beyond * beyond) return (place >> 8) & 1 ? -(TAIL + beyond) : TAIL + beyond;
      }
    }
  }
}

const TAIL = 3.6541528853610088; // where the tail begins, with 256 layers

/** Of each layer, all of one area, its right edge, the share of it that is surely under the bell in 2⁻⁵², and the bell's height there. */
const LAYERS = (() => {
  /** @param {number} x */
  const bell = (x) => Math.exp(-0.5 * x * x);
  const area = TAIL * bell(TAIL) + Math.sqrt(Math.PI / 2) * mg.erfc(TAIL * Math.SQRT1_2);
  const edge = new Array(256).fill(0);
  edge[255] = TAIL;
  for (let i = 254; i > 0; i--) edge[i] = Math.sqrt(-2 * Math.log(area / edge[i + 1] + bell(edge[i + 1])));
  const inside = edge.map((x, i) => (i ? Math.floor((edge[i - 1] / x) * 2 ** 52) : Math.floor(((TAIL * bell(TAIL)) / area) * 2 ** 52)));
  inside[1] = 0;
  const height = edge.map(bell);
  edge[0] = area / bell(TAIL);
  return { edge, inside, height };
})();

/** NumPy's SeedSequence(seed).generate_state(n, uint64). @param {number} seed @param {number} n */
function seedSequence(seed, n) {
  let hash = 0x43b0d7e5;
  /** @param {number} value */
  const hashed = (value) => {
    value ^= hash;
    hash = Math.imul(hash, 0x931e8875);
    value = Math.imul(value, hash);
    return (value ^ (value >>> 16)) >>> 0;
  };
  const pool = [seed, 0, 0, 0].map(hashed);
  for (let from = 0; from < 4; from++)
    for (let to = 0; to < 4; to++)
      if (from !== to) {
        const mixed = (Math.imul(pool[to], 0xca01f9dd) - Math.imul(hashed(pool[from]), 0x4973f715)) >>> 0;
        pool[to] = (mixed ^ (mixed >>> 16)) >>> 0;
      }
  hash = 0x8b51f9dd;
  const words = Array.from({ length: 2 * n }, (_, i) => {
    let value = pool[i % 4] ^ hash;
    hash = Math.imul(hash, 0x58f38ded);
    value = Math.imul(value, hash);
    return BigInt((value ^ (value >>> 16)) >>> 0);
  });
  return Array.from({ length: n }, (_, i) => words[2 * i] | (words[2 * i + 1] << 32n));
}
