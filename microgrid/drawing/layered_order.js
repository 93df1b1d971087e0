// @ts-check
// Layered drawing, second part: the order within the ranks.
"use strict";

/** @typedef {ReturnType<typeof layeredOrder.makePoints>} LayeredPoints */

const layeredOrder = (() => {
  const { emptyLists, walk, rankBoxes } = layeredRanks;

  /** How many points edges pass in all; in large graphs, how many for each box. */
  const MOST_POINTS = { all: 8000, each: 3 };

  // Points: the boxes, and one point in each rank that an edge passes. Of each cluster and rank there is a list of
  // what stands side by side: points, and the clusters within (as −1 − cluster).

  /** @param {LayeredBox[]} boxes @param {LayeredCluster[]} clusters @param {LayeredUse[]} uses @param {(Pair | null)[]} rooms */
  function makePoints(boxes, clusters, uses, rooms) {
    const parents = clusters.map(({ parent }) => parent);
    const { stamp, edgeStamp, turned } = walk(boxes.length, uses);
    const root = parents.length;
    const clusterOf = boxes.map((box) => box.cluster);
    /** @type {Pair[]} */
    const pairs = uses.map(([u, v], e) => (turned[e] ? [v, u] : [u, v]));
    const step = rooms.some((room) => room) ? 2 : 1;
    const rank = rankBoxes(boxes.length, clusterOf, parents, pairs).map((r) => r * step);
    const up = [...parents.map((c) => c ?? root), -1];
    const depth = new Array(root + 1).fill(0);
    for (let c = 0; c < root; c++) depth[c] = up[c] === root ? 1 : depth[up[c]] + 1;
    const first = new Array(root + 1).fill(Infinity);
    const last = new Array(root + 1).fill(-Infinity);
    const cluster = clusterOf.map((c) => c ?? root);
    rank.forEach((r, i) => {
      for (let c = cluster[i]; c >= 0; c = up[c]) {
        first[c] = Math.min(first[c], r);
        last[c] = Math.max(last[c], r);
      }
    });
    const points = { step, root, up, depth, first, last, rank, cluster, stamp: [...stamp], given: [...boxes.keys()], size: boxes.map((box) => box.size), left: emptyLists(boxes.length), right: emptyLists(boxes.length), boxes: boxes.length, sibling: boxes.map((box) => box.sibling ?? null), siblingOf: clusters.map((cluster, c) => cluster.sibling ?? c) };
    const common = (/** @type {number} */ a, /** @type {number} */ b) => {
      while (a !== b) {
        if (depth[a] >= depth[b]) a = up[a];
        else b = up[b];
      }
      return a;
    };
    // The inmost cluster below `top` around a box that reaches a rank.
    const reaching = (/** @type {number} */ c, /** @type {number} */ top, /** @type {number} */ r) => {
      while (c !== top && (r < first[c] || r > last[c])) c = up[c];
      return c;
    };
    const limit = longestSpan(pairs.map(([u, v]) => rank[v] - rank[u] - 1), Math.max(MOST_POINTS.all, MOST_POINTS.each * boxes.length));
    const chains = pairs.map(([u, v], e) => {
      if (rank[v] - rank[u] - 1 > limit) return [u, v];
      const top = common(cluster[u], cluster[v]);
      const room = rooms[e];
      const chain = [u];
      for (let r = rank[u] + 1; r < rank[v]; r++) {
        const [a, b] = [reaching(cluster[u], top, r), reaching(cluster[v], top, r)];
        const p = points.rank.push(r) - 1;
        points.cluster.push(a === top ? b : b === top ? a : top);
        points.stamp.push(edgeStamp[e]);
        points.given.push(u);
        points.size.push(room && r === rank[v] - 1 ? room : [0, 0]);
        points.left.push([]);
        points.right.push([]);
        chain.push(p);
      }
      chain.push(v);
      for (let k = 1; k < chain.length; k++) {
        points.right[chain[k - 1]].push(chain[k]);
        points.left[chain[k]].push(chain[k - 1]);
      }
      return chain;
    });
    return { ...points, chains, turned, common };
  }

  /** The longest edges go without points, if all would have too many. @param {number[]} spans @param {number} most */
  function longestSpan(spans, most) {
    let total = 0;
    for (const span of spans.toSorted((a, b) => a - b)) if ((total += span) > most) return span - 1;
    return Infinity;
  }

  /** @param {LayeredPoints} points */
  function arrange(points) {
    const { root, up, first, last, rank, cluster, stamp, left, right, sibling, siblingOf } = points;
    const ranks = Math.max(-1, ...last.slice(root)) + 1;
    const of = first.map((from, c) => emptyLists(last[c] - from + 1));
    const at = (/** @type {number} */ c, /** @type {number} */ r) => of[c][r - first[c]];
    const key = new Float64Array(rank.length);
    const clusterKey = new Float64Array(root);
    const place = new Int32Array(rank.length);
    for (let c = 0; c < root; c++) for (let r = first[c]; r <= last[c]; r++) at(up[c], r).push(-1 - c);
    for (let p = 0; p < rank.length; p++) at(cluster[p], rank[p]).push(p);

    /** The number of an item among its siblings. @param {number} item */
    const numbered = (item) => (item < 0 ? siblingOf[-1 - item] : (sibling[item] ?? null));

    /** The points of a rank in their order. @param {number} c @param {number} r @param {number[]} found */
    const flat = (c, r, found = []) => {
      for (const item of at(c, r)) {
        if (item >= 0) found.push(item);
        else flat(-1 - item, r, found);
      }
      return found;
    };
    const row = emptyLists(ranks); // of points, in their order, and `place` the other way round
    const number = (/** @type {number} */ r) => (row[r] = flat(root, r)).forEach((p, k) => (place[p] = k));

    /** Sort by the keys; return their sum and number. @param {number} c @param {number} r @returns {Pair} */
    const sort = (c, r) => {
      const list = at(c, r);
      let sum = 0;
      let count = 0;
      let before = NaN;
      const keyOf = (/** @type {number} */ item) => (item < 0 ? clusterKey[-1 - item] : key[item]);
      for (const item of list) {
        const [s, n] = item < 0 ? sort(-1 - item, r) : [key[item], 1];
        if (n && s === s) {
          before = s / n;
          sum += s;
          count += n;
        }
        if (item < 0) clusterKey[-1 - item] = before;
        else key[item] = before;
      }
      list.sort((a, b) => keyOf(a) - keyOf(b) || 0); // what has no key yet stays where it is
      const siblings = list.filter((item) => numbered(item) !== null).sort((a, b) => Number(numbered(a)) - Number(numbered(b)));
      if (siblings.length) list.forEach((item, i) => numbered(item) !== null && (list[i] = /** @type {number} */ (siblings.shift())));
      return [sum, count];
    };

    const crossings = () => {
      let total = 0;
      for (let r = 0; r + 1 < ranks; r++) {
        const ends = [];
        for (const p of row[r]) {
          if (right[p].length === 1) ends.push(place[right[p][0]]);
          else ends.push(...right[p].map((q) => place[q]).sort((a, b) => a - b));
        }
        total += inversions(ends);
      }
      return total;
    };

    // The mean of the neighbours on one side. What has none goes to what its users take beside it.
    const sweep = (/** @type {number} */ way) => {
      const [near, far] = way > 0 ? [left, right] : [right, left];
      for (let k = 1; k < ranks; k++) {
        const r = way > 0 ? k : ranks - 1 - k;
        for (const p of row[r]) key[p] = mean(near[p], place);
        for (const p of row[r]) {
          if (near[p].length) continue;
          key[p] = mean(far[p].flatMap((q) => near[q]).filter((q) => near[q].length), key);
        }
        sort(root, r);
        number(r);
      }
    };

    // Exchange neighbours in a rank where that saves crossings; or, to restore the wanted order, where it costs none.
    const exchange = (/** @type {boolean} */ restoring, /** @type {number} */ times) => {
      let busy = new Uint8Array(ranks + 2).fill(1); // rank r at r + 1: whether it or a neighbour changed
      for (let time = 0; time < times; time++) {
        const changed = new Uint8Array(ranks + 2);
        for (let r = 0; r < ranks; r++) {
          if (!busy[r] && !busy[r + 1] && !busy[r + 2]) continue;
          for (const p of row[r]) for (const side of sides) side.sort(p);
          for (let c = 0; c <= root; c++) if (r >= first[c] && r <= last[c] && exchangeIn(c, r, restoring)) changed[r + 1] = 1;
          if (changed[r + 1]) number(r);
        }
        if (!changed.includes(1)) break;
        busy = changed;
      }
    };
    // The places where the edges of each point end, in their order, all in one array
    const sides = [left, right].map((of) => {
      const start = new Int32Array(of.length + 1);
      of.forEach((list, p) => (start[p + 1] = start[p] + list.length));
      const ends = new Int32Array(start[of.length]);
      const sort = (/** @type {number} */ p) => {
        for (let k = start[p]; k < start[p + 1]; k++) {
          const end = place[of[p][k - start[p]]];
          let at = k;
          for (; at > start[p] && ends[at - 1] > end; at--) ends[at] = ends[at - 1];
          ends[at] = end;
        }
      };
      return { start, ends, sort };
    });
    const exchangeIn = (/** @type {number} */ c, /** @type {number} */ r, /** @type {boolean} */ restoring) => {
      const list = at(c, r);
      let changed = false;
      const endsOf = (/** @type {number} */ item, /** @type {typeof sides[0]} */ { start, ends }) =>
        Int32Array.from((item < 0 ? flat(-1 - item, r) : [item]).flatMap((p) => [...ends.subarray(start[p], start[p + 1])])).sort();
      for (let i = 0; i + 1 < list.length; i++) {
        const [a, b] = [list[i], list[i + 1]];
        if ((numbered(a) !== null && numbered(b) !== null) || (restoring && (a < 0 || b < 0 || stamp[a] < stamp[b]))) continue;
        let saved = 0;
        for (const side of sides) {
          const { start, ends } = side;
          if (a < 0 || b < 0) {
            const [x, y] = [endsOf(a, side), endsOf(b, side)];
            saved += crossed(x, 0, x.length, y, 0, y.length);
          } else saved += crossed(ends, start[a], start[a + 1], ends, start[b], start[b + 1]);
        }
        if (restoring ? saved < 0 : saved <= 0) continue;
        list[i] = b;
        list[i + 1] = a;
        changed = true;
        if (restoring && i) i -= 2;
      }
      return changed;
    };

    const keep = () => of.map((rows) => rows.map((row) => row.slice()));
    const best = { crossings: Infinity, order: keep() };
    const rounds = rank.length < 4000 ? 12 : 3;
    for (const start of rank.length < 4000 ? [stamp, points.given] : [stamp]) {
      key.set(start);
      for (let r = 0; r < ranks; r++) {
        sort(root, r);
        number(r);
      }
      for (let round = 0, idle = 0; round < rounds && idle < 4 && best.crossings; round++, idle++) {
        if (round) {
          sweep(round % 2 ? -1 : 1);
          exchange(false, 2);
        }
        const found = crossings();
        if (found >= best.crossings) continue;
        Object.assign(best, { crossings: found, order: keep() });
        idle = 0;
      }
    }
    best.order.forEach((rows, c) => rows.forEach((row, r) => (of[c][r] = row)));
    for (let r = 0; r < ranks; r++) number(r);
    exchange(true, 8);
    return { ranks, of, at, flat };
  }

  /** @param {number[]} items @param {ArrayLike<number>} of */
  function mean(items, of) {
    let sum = 0;
    for (const item of items) sum += of[item];
    return sum / items.length;
  }

  /** How many pairs stand in the wrong order. @param {number[]} numbers */
  function inversions(numbers) {
    const size = numbers.reduce((most, x) => Math.max(most, x), 0) + 2;
    const tree = new Int32Array(size);
    let total = 0;
    numbers.forEach((x, seen) => {
      let smaller = 0;
      for (let i = x + 1; i > 0; i -= i & -i) smaller += tree[i];
      total += seen - smaller;
      for (let i = x + 1; i < size; i += i & -i) tree[i]++;
    });
    return total;
  }

  /**
   * How many crossings it saves to exchange two neighbours, whose edges end at these places of two sorted arrays.
   *
   * @param {Int32Array} a @param {number} from @param {number} to @param {Int32Array} b @param {number} start @param {number} end
   */
  function crossed(a, from, to, b, start, end) {
    let saved = 0;
    let less = start; // of b's ends, before an end of a's
    let upTo = start;
    for (let k = from; k < to; k++) {
      while (less < end && b[less] < a[k]) less++;
      while (upTo < end && b[upTo] <= a[k]) upTo++;
      saved += less - start - (end - upTo);
    }
    return saved;
  }

  return { makePoints, arrange };
})();
