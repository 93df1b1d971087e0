// @ts-check
// Layered drawing, third part: coordinates across the ranks.
"use strict";

const layeredPlaces = (() => {
  const { emptyLists } = layeredRanks;

  /** Between neighbours in a rank: boxes, edges that pass, frames; between ranks, and beside a label. */
  const GAPS = { box: 16, line: 9, frame: 12, rank: 84, label: 20 };

  // Coordinates across the ranks. Cluster by cluster, inner ones first: what stands in it moves to the weighted mean of
  // its neighbours, as near as order and distances allow; then the cluster is one block of the cluster around it.

  /** @param {LayeredPoints} points @param {ReturnType<typeof layeredOrder.arrange>} order @param {0 | 1} across @param {[number, number]} pads */
  function place(points, order, across, pads) {
    const { root, up, first, last, rank, cluster, size, right, boxes, common } = points;
    const { at } = order;
    const count = rank.length;
    const y = new Float64Array(count);
    const half = new Float64Array(count + root + 1); // of points, then of clusters
    for (let p = 0; p < count; p++) half[p] = size[p][across] / 2;
    const members = emptyLists(root + 1);
    for (let p = 0; p < count; p++) members[cluster[p]].push(p);
    // Long edges are to be straight: what passes ranks weighs more.
    const weight = (/** @type {number} */ p, /** @type {number} */ q) => (p < boxes ? 1 : 3) * (q < boxes ? 1 : 3);
    /** @type {{ a: number, p: number, b: number, q: number, weight: number }[][]} */
    const edges = Array.from({ length: root + 1 }, () => /** @type {any[]} */ ([]));
    const itemOf = (/** @type {number} */ p, /** @type {number} */ top) => {
      let item = p;
      for (let c = cluster[p]; c !== top; c = up[c]) item = count + c;
      return item;
    };
    right.forEach((list, p) => {
      for (const q of list) {
        const top = common(cluster[p], cluster[q]);
        edges[top].push({ a: itemOf(p, top), p, b: itemOf(q, top), q, weight: weight(p, q) });
      }
    });
    const gap = (/** @type {number} */ a, /** @type {number} */ b) => {
      const between = a >= count || b >= count ? GAPS.frame : a < boxes && b < boxes ? GAPS.box : GAPS.line;
      return half[a] + half[b] + between;
    };
    const corners = new Array(root);

    for (const c of [...corners.keys()].reverse().concat(root)) {
      // One row per rank, of items numbered from 0
      const number = new Map();
      /** @type {number[]} */
      const items = [];
      /** @type {number[][]} */
      const rows = [];
      for (let r = first[c]; r <= last[c]; r++)
        rows.push(
          at(c, r).map((item) => {
            const id = item >= 0 ? item : count - 1 - item;
            if (!number.has(id)) number.set(id, items.push(id) - 1);
            return number.get(id);
          }),
        );
      if (!items.length) continue;
      const start = items.map((id) => (id < count ? rank[id] : first[id - count]) - first[c]);
      const end = items.map((id) => (id < count ? rank[id] : last[id - count]) - first[c]);
      const walls = items.some((_, i) => start[i] < end[i]);
      const after = emptyLists(items.length);
      const before = emptyLists(items.length);
      for (const row of rows)
        for (let k = 1; k < row.length; k++) {
          after[row[k - 1]].push(row[k]);
          before[row[k]].push(row[k - 1]);
        }
      const waits = before.map((list) => list.length);
      const sorted = waits.flatMap((n, i) => (n ? [] : [i]));
      for (let k = 0; k < sorted.length; k++) for (const next of after[sorted[k]]) if (--waits[next] === 0) sorted.push(next);
      const backward = sorted.toReversed();

      const z = new Float64Array(items.length);
      // Move what is too near apart: once all to one side, once all to the other, and the mean of both.
      const part = (/** @type {Float64Array} */ low, /** @type {Float64Array} */ high) => {
        for (const i of sorted) for (const j of after[i]) low[j] = Math.max(low[j], low[i] + gap(items[i], items[j]));
        for (const i of backward) for (const j of before[i]) high[j] = Math.min(high[j], high[i] - gap(items[j], items[i]));
        for (let i = 0; i < z.length; i++) z[i] = (low[i] + high[i]) / 2;
      };
      const low = new Float64Array(items.length);
      for (const i of sorted) for (const j of after[i]) low[j] = Math.max(low[j], low[i] + gap(items[i], items[j]));
      part(low, new Float64Array(items.length).fill(low.reduce((most, x) => Math.max(most, x), 0)));

      // The neighbours of an item, with the difference at which the edge between them would be level
      const links = edges[c].map(({ a, p, b, q, weight }) => ({ i: number.get(a), j: number.get(b), level: (a < count ? 0 : y[p]) - (b < count ? 0 : y[q]), weight }));
      const from = new Int32Array(items.length + 1);
      for (const { i, j } of links) {
        from[i + 1]++;
        from[j + 1]++;
      }
      for (let i = 0; i < items.length; i++) from[i + 1] += from[i];
      const filled = from.slice();
      const other = new Int32Array(2 * links.length);
      const level = new Float64Array(2 * links.length);
      const weigh = new Float64Array(2 * links.length);
      const add = (/** @type {number} */ k, /** @type {number} */ to, /** @type {number} */ difference, /** @type {number} */ weight) => {
        other[k] = to;
        level[k] = difference;
        weigh[k] = weight;
      };
      for (const link of links) {
        add(filled[link.i]++, link.j, -link.level, link.weight);
        add(filled[link.j]++, link.i, link.level, link.weight);
      }
      const longest = rows.reduce((most, row) => Math.max(most, row.length), 1);
      const [targets, weights, distances] = [0, 1, 2].map(() => new Float64Array(longest));
      // Where the neighbours before, after or on both sides want an item to be; and with which weight, 0 if there are none
      const want = (/** @type {number} */ i, /** @type {number} */ way, /** @type {number} */ n, places = z) => {
        let sum = 0;
        let all = 0;
        for (let k = from[i]; k < from[i + 1]; k++) {
          const j = other[k];
          if (way > 0 ? end[j] >= start[i] : way < 0 && start[j] <= end[i]) continue;
          sum += weigh[k] * (places[j] + level[k]);
          all += weigh[k];
        }
        targets[n] = sum / all;
        weights[n] = all;
      };
      // Rank by rank, each settled where its neighbours want it.
      const sweep = (/** @type {boolean} */ on, /** @type {number} */ way) => {
        for (let k = 0; k < rows.length; k++) {
          const row = rows[on ? k : rows.length - 1 - k];
          for (let n = 1; n < row.length; n++) distances[n] = gap(items[row[n - 1]], items[row[n]]);
          for (let n = 0; n < row.length; n++) {
            want(row[n], way, n);
            if (!weights[n]) [targets[n], weights[n]] = [z[row[n]], 0.1];
          }
          settle(row.length, targets, weights, distances);
          for (let n = 0; n < row.length; n++) z[row[n]] = targets[n];
        }
      };
      // Where clusters reach over ranks, these depend on each other: all of them move at once, with momentum.
      const relax = () => {
        const velocity = new Float64Array(items.length);
        const masses = items.map((_, i) => {
          want(i, 0, 0);
          return weights[0] || 0.01;
        });
        for (let k = 0; k < 100; k++) {
          const was = z.slice();
          const ahead = z.map((place, i) => place + velocity[i]);
          ahead.forEach((place, i) => {
            want(i, 0, 0, ahead);
            z[i] = weights[0] ? (place + targets[0]) / 2 : place;
          });
          separate(masses);
          for (let i = 0; i < z.length; i++) velocity[i] = (k / (k + 3)) * (z[i] - was[i]);
        }
      };
      // The nearest places that are far enough apart: what touches forms a block, which stands at its weighted mean
      // (T. Dwyer, K. Marriott & P. J. Stuckey, "Fast node overlap removal", 2005).
      const separate = (/** @type {number[]} */ masses) => {
        /** @type {{ members: number[], sum: number, mass: number }[]} */
        const blocks = new Array(items.length);
        const offset = new Float64Array(items.length);
        const at = (/** @type {number} */ i) => blocks[i].sum / blocks[i].mass + offset[i];
        for (const i of sorted) {
          blocks[i] = { members: [i], sum: masses[i] * z[i], mass: masses[i] };
          for (;;) {
            const block = blocks[i];
            let [worst, lower, upper] = [1e-9, -1, -1];
            for (const j of block.members)
              for (const h of before[j]) {
                if (blocks[h] === block) continue;
                const over = at(h) + gap(items[h], items[j]) - at(j);
                if (over > worst) [worst, lower, upper] = [over, h, j];
              }
            if (lower < 0) break;
            const other = blocks[lower];
            const shift = offset[upper] - gap(items[lower], items[upper]) - offset[lower];
            for (const h of other.members) {
              offset[h] += shift;
              blocks[h] = block;
              block.members.push(h);
            }
            block.sum += other.sum - shift * other.mass;
            block.mass += other.mass;
          }
        }
        const places = z.map((_, i) => at(i));
        z.set(places);
      };
      // What an edge passes in ranks side by side lies at one height as far as there is room: small steps are only noise.
      const straighten = () => {
        const next = (/** @type {number} */ id) => (id >= boxes && id < count && right[id][0] >= boxes ? number.get(right[id][0]) : undefined);
        const isFirst = new Uint8Array(items.length).fill(1);
        for (const id of items) {
          const i = next(id);
          if (i !== undefined) isFirst[i] = 0;
        }
        items.forEach((id, first) => {
          if (!isFirst[first] || next(id) === undefined) return;
          /** @type {number[]} */
          let run = [];
          let [low, high] = [-Infinity, Infinity];
          const level = () => {
            const middle = run.reduce((sum, i) => sum + z[i], 0) / run.length;
            for (const i of run) z[i] = Math.min(high, Math.max(low, middle));
          };
          for (/** @type {number | undefined} */ let i = first; i !== undefined; i = next(items[i])) {
            let [least, most] = [-Infinity, Infinity];
            for (const h of before[i]) least = Math.max(least, z[h] + gap(items[h], items[i]));
            for (const h of after[i]) most = Math.min(most, z[h] - gap(items[i], items[h]));
            if (Math.max(low, least) > Math.min(high, most)) {
              level();
              run = [];
              [low, high] = [least, most];
            } else [low, high] = [Math.max(low, least), Math.min(high, most)];
            run.push(i);
          }
          level();
        });
      };
      if (walls) relax();
      else {
        sweep(true, 1);
        sweep(false, -1);
        for (let k = 0; k < (items.length < 3000 ? 12 : 4); k++) sweep(k % 2 === 0, 0);
      }

      straighten();

      let [top, bottom] = [Infinity, -Infinity];
      items.forEach((id, i) => {
        if (id < count) y[id] = z[i];
        else for (const p of members[id - count]) y[p] += z[i];
        if (id >= count) for (const inner of corners[id - count].around) (corners[inner].low += z[i]), (corners[inner].high += z[i]);
        top = Math.min(top, z[i] - half[id]);
        bottom = Math.max(bottom, z[i] + half[id]);
      });
      if (c === root) continue;
      top -= pads[0];
      bottom += pads[1];
      const middle = (top + bottom) / 2;
      half[count + c] = (bottom - top) / 2;
      const around = [c];
      for (const id of items) {
        if (id < count) continue;
        members[c].push(...members[id - count]);
        around.push(...corners[id - count].around);
      }
      for (const p of members[c]) y[p] -= middle;
      for (const inner of around.slice(1)) (corners[inner].low -= middle), (corners[inner].high -= middle);
      corners[c] = { low: -half[count + c], high: half[count + c], around };
    }
    return { y, corners };
  }

  /**
   * Put targets at least so far apart, in their order and as near to where they are as weights tell: pools of
   * neighbours that touch stand at their weighted mean (isotonic regression).
   *
   * @param {number} count @param {Float64Array} targets @param {Float64Array} weights
   * @param {Float64Array} distances from the one before
   */
  function settle(count, targets, weights, distances) {
    let pools = 0;
    let offset = 0;
    for (let k = 0; k < count; k++) {
      if (k) offset += distances[k];
      let weight = weights[k];
      let sum = weight * (targets[k] - offset);
      let size = 1;
      for (; pools && sums[pools - 1] / masses[pools - 1] > sum / weight; pools--) {
        sum += sums[pools - 1];
        weight += masses[pools - 1];
        size += sizes[pools - 1];
      }
      sums[pools] = sum;
      masses[pools] = weight;
      sizes[pools++] = size;
    }
    offset = 0;
    for (let pool = 0, k = 0; pool < pools; pool++)
      for (let n = 0; n < sizes[pool]; n++, k++) {
        if (k) offset += distances[k];
        targets[k] = sums[pool] / masses[pool] + offset;
      }
  }
  /** @type {number[]} */
  const sums = [];
  /** @type {number[]} */
  const masses = [];
  /** @type {number[]} */
  const sizes = [];

  return { GAPS, place };
})();
