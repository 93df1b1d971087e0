// @ts-check
// Layered drawing, first part: which rank each box stands in, and in which order a reader would name them.
"use strict";

/** @typedef {[number, number]} Pair */
/** @typedef {{ size: Pair, cluster: number | null, sibling?: number | null }} LayeredBox  cluster: the inmost one around it */
/** @typedef {{ title: string, parent: number | null, sibling?: number | null }} LayeredCluster  outer ones come first */
/** @typedef {[number, number, number, number]} LayeredUse  source, target, argument, count */

const layeredRanks = (() => {
  /** @type {(length: number) => number[][]} */
  const emptyLists = (length) => Array.from({ length }, () => /** @type {number[]} */ ([]));

  // The wanted order: a walk from the results back, argument by argument. It also finds the edges that close a cycle.

  /** @param {number} count @param {LayeredUse[]} uses */
  function walk(count, uses) {
    const into = emptyLists(count);
    const used = new Int32Array(count);
    uses.forEach(([source, target], e) => {
      into[target].push(e);
      used[source]++;
    });
    for (const list of into) list.sort((a, b) => uses[a][2] - uses[b][2] || uses[a][0] - uses[b][0] || a - b);
    const stamp = new Int32Array(count).fill(-1);
    const edgeStamp = new Int32Array(uses.length);
    const open = new Uint8Array(count);
    const turned = new Uint8Array(uses.length);
    const next = new Int32Array(count);
    let clock = 0;
    const roots = [...Array(count).keys()];
    for (const root of [...roots.filter((i) => !used[i]), ...roots]) {
      if (stamp[root] >= 0) continue;
      const stack = [root];
      stamp[root] = clock++;
      open[root] = 1;
      while (stack.length) {
        const i = stack[stack.length - 1];
        if (next[i] === into[i].length) {
          open[i] = 0;
          stack.pop();
          continue;
        }
        const e = into[i][next[i]++];
        const source = uses[e][0];
        edgeStamp[e] = clock++;
        if (open[source]) turned[e] = 1;
        else if (stamp[source] < 0) {
          stamp[source] = clock++;
          open[source] = 1;
          stack.push(source);
        }
      }
    }
    return { stamp, edgeStamp, turned };
  }

  // Ranks: the longest path, then what can follow its users goes there. A cluster has a first and a last rank of its
  // own, and an edge between two clusters sets all of the one before all of the other, unless that makes a cycle.

  /** @param {number} count @param {(number | null)[]} clusterOf @param {(number | null)[]} parents @param {Pair[]} pairs */
  function rankBoxes(count, clusterOf, parents, pairs) {
    const total = count + 2 * parents.length;
    const begin = (/** @type {number} */ c) => count + 2 * c;
    const loose = new Uint8Array(parents.length);
    const tight = (/** @type {number | null} */ c) => {
      while (c !== null && loose[c]) c = parents[c];
      return c;
    };
    const chain = (/** @type {number} */ i) => {
      const found = [];
      for (let c = tight(clusterOf[i]); c !== null; c = tight(parents[c])) found.push(c);
      return found;
    };
    for (;;) {
      const after = emptyLists(total);
      const before = emptyLists(total);
      const link = (/** @type {number} */ a, /** @type {number} */ b) => {
        after[a].push(b);
        before[b].push(a);
      };
      const chains = clusterOf.map((_, i) => chain(i));
      chains.forEach(([c], i) => c !== undefined && (link(begin(c), i), link(i, begin(c) + 1)));
      parents.forEach((_, c) => {
        const outer = loose[c] ? null : tight(parents[c]);
        if (outer !== null) (link(begin(outer), begin(c)), link(begin(c) + 1, begin(outer) + 1));
      });
      const inner = after.map((list) => list.length); // the links so far demand no rank between their ends
      for (const [u, v] of pairs) {
        const [a, b] = [chains[u], chains[v]];
        let common = 0;
        while (common < a.length && common < b.length && a[a.length - 1 - common] === b[b.length - 1 - common]) common++;
        const [outer, other] = [a[a.length - 1 - common], b[b.length - 1 - common]];
        link(outer === undefined ? u : begin(outer) + 1, other === undefined ? v : begin(other));
      }
      const sort = (/** @type {number[][]} */ forward, /** @type {number[][]} */ back, /** @type {(i: number) => boolean} */ among) => {
        const waits = back.map((list) => list.filter(among).length);
        const ready = waits.flatMap((n, i) => (n || !among(i) ? [] : [i]));
        for (let k = 0; k < ready.length; k++) for (const next of forward[ready[k]]) if (among(next) && --waits[next] === 0) ready.push(next);
        return ready;
      };
      const order = sort(after, before, () => true);
      if (order.length < total) {
        const sorted = new Set(order);
        const leading = new Set(sort(before, after, (i) => !sorted.has(i)));
        parents.forEach((_, c) => {
          if ([begin(c), begin(c) + 1].some((i) => !sorted.has(i) && !leading.has(i))) loose[c] = 1;
        });
        continue;
      }
      const rank = new Int32Array(total);
      const far = (/** @type {number} */ i, /** @type {number} */ k) => (k < inner[i] ? 0 : 1);
      for (const i of order) after[i].forEach((next, k) => (rank[next] = Math.max(rank[next], rank[i] + far(i, k))));
      // How many edges grow when a box moves away from its operands: those of operands that are computed and cannot follow.
      const users = new Int32Array(count);
      for (const [u] of pairs) users[u]++;
      const operands = emptyLists(count);
      for (const [u, v] of pairs) operands[v].push(u);
      const pull = new Int32Array(count);
      const boxesOf = order.filter((i) => i < count);
      for (const i of boxesOf) pull[i] = operands[i].reduce((sum, u) => sum + (operands[u].length && users[u] > 1 ? 1 : Math.min(1, pull[u])), 0);
      for (const i of order.toReversed()) {
        const moves = i < count ? pull[i] < users[i] : (i - count) % 2 === 0;
        if (moves && after[i].length) rank[i] = after[i].reduce((least, next, k) => Math.min(least, rank[next] - far(i, k)), Infinity);
      }
      const used = [...new Set(rank.slice(0, count))].sort((a, b) => a - b);
      const dense = new Map(used.map((r, k) => [r, k]));
      return Array.from(rank.slice(0, count), (r) => dense.get(r) ?? 0);
    }
  }

  return { emptyLists, walk, rankBoxes };
})();
