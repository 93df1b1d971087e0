// @ts-check
// Where the boxes of a graph stand when a page lays it out: ranks, order within the ranks, coordinates, curves, after
// K. Sugiyama, S. Tagawa & M. Toda (1981) and E. R. Gansner et al., "A technique for drawing directed graphs" (1993).
// A cluster is solved by itself and then moves as one block: so frames hold their own boxes and nothing else.
"use strict";

/** @typedef {{ labelled: boolean, at: Pair[], size: Pair[], routes: Pair[][], labels: (Pair | null)[],
 *    frames: { title: string, cluster: number, corners: number[] }[] }} LayeredPlaces */

/**
 * Lay out a graph. Operands keep the order of their arguments, unless edges would cross. Boxes and clusters that
 * have a number among their siblings always stand in its order; a cluster without one has that in which it is given.
 * The same graph gives the same places.
 *
 * @param {LayeredBox[]} boxes
 * @param {LayeredCluster[]} clusters
 * @param {LayeredUse[]} uses the edges
 * @param {{ direction?: "LR" | "RL" | "TB" | "BT", rooms?: (Pair | null)[] }} [options] where the edges lead; the
 *   width and height of the room that an edge has for its label
 * @returns {LayeredPlaces} as Layout.json() of layout.py has them; also which cluster a frame is of
 */
const layered = (() => {
  const { emptyLists } = layeredRanks;
  const { makePoints, arrange } = layeredOrder;
  const { GAPS, place } = layeredPlaces;
  const PAD = { left: 12, right: 12, top: 28, bottom: 12 }; // from what a frame holds to the frame
  const SPREAD = 15; // between the ends of edges into one box
  /** Where the edges begin and end, and what is before and after across them @type {Record<string, (keyof typeof PAD)[]>} */
  const SIDES = { LR: ["left", "right", "top", "bottom"], RL: ["right", "left", "top", "bottom"], TB: ["top", "bottom", "left", "right"], BT: ["bottom", "top", "left", "right"] };

  return (/** @type {LayeredBox[]} */ boxes, /** @type {LayeredCluster[]} */ clusters, /** @type {LayeredUse[]} */ uses, { direction = "LR", rooms = [] } = {}) => {
    const [begins, ends, low, high] = SIDES[direction];
    const along = low === "top" ? 0 : 1;
    const across = along ? 0 : 1;
    const sign = begins === "left" || begins === "top" ? 1 : -1;
    const points = makePoints(boxes, clusters, uses, rooms);
    const { root, up, first, last, rank, size, step, chains, turned } = points;
    const order = arrange(points);
    const { y, corners } = place(points, order, across, [PAD[low], PAD[high]]);

    // Columns: as wide as their boxes or labels, as far apart as frames need
    const width = new Float64Array(order.ranks);
    rank.forEach((r, p) => (width[r] = Math.max(width[r], size[p][along])));
    const before = new Float64Array(root);
    const after = new Float64Array(root);
    const opens = new Float64Array(order.ranks + 1);
    const closes = new Float64Array(order.ranks + 1);
    for (let c = root - 1; c >= 0; c--) {
      if (last[c] < first[c]) continue;
      before[c] += PAD[begins];
      after[c] += PAD[ends];
      opens[first[c]] = Math.max(opens[first[c]], before[c]);
      closes[last[c]] = Math.max(closes[last[c]], after[c]);
      if (up[c] === root) continue;
      if (first[up[c]] === first[c]) before[up[c]] = Math.max(before[up[c]], before[c]);
      if (last[up[c]] === last[c]) after[up[c]] = Math.max(after[up[c]], after[c]);
    }
    const x = new Float64Array(order.ranks);
    for (let r = 1; r < order.ranks; r++) {
      const label = step === 2 ? width[r % 2 ? r : r - 1] : 0;
      const least = step === 2 ? Math.max(GAPS.label, (GAPS.rank - label) / 2) : GAPS.rank;
      const gap = Math.max(least, closes[r - 1] + opens[r] + GAPS.frame);
      x[r] = x[r - 1] + width[r - 1] / 2 + gap + width[r] / 2;
    }

    const round = (/** @type {number} */ value) => Math.round(value * 10) / 10;
    /** @type {(u: number, v: number) => Pair} */
    const point = (u, v) => (along ? [round(v), round(sign * u)] : [round(sign * u), round(v)]);
    const at = boxes.map((_, i) => point(x[rank[i]], y[i]));
    const side = (/** @type {number} */ i, /** @type {number} */ way) => x[rank[i]] + (way * size[i][along]) / 2;
    const edge = (/** @type {number} */ p, /** @type {number} */ way) => x[rank[p]] + (way * width[rank[p]]) / 2; // of its column
    const lines = chains.map((chain) => {
      const [source, target] = [chain[0], chain[chain.length - 1]];
      const between = chain.slice(1, -1).filter((p) => width[rank[p]]);
      const passed = between.flatMap((p) => [-1, 1].map((way) => [edge(p, way), y[p]]));
      return [[side(source, 1), y[source]], [edge(source, 1), y[source]], ...passed, [edge(target, -1), y[target]], [side(target, -1), y[target]]];
    });
    const into = emptyLists(boxes.length);
    chains.forEach((chain, e) => into[chain[chain.length - 1]].push(e));
    into.forEach((edges, target) => {
      const from = (/** @type {number} */ e) => lines[e][lines[e].length - 3][1];
      edges.sort((a, b) => from(a) - from(b) || uses[a][2] - uses[b][2]);
      const apart = Math.min(SPREAD, (0.7 * size[target][across]) / edges.length);
      edges.forEach((e, k) => lines[e].slice(-2).forEach((end) => (end[1] += apart * (k - (edges.length - 1) / 2))));
    });
    const routes = lines.map((line, e) => {
      const level = (/** @type {number} */ j, /** @type {number} */ k) => Math.abs(line[j][1] - line[k][1]) < 0.05;
      const bends = line.filter((_, k) => !k || k + 1 === line.length || !(level(k - 1, k) && level(k, k + 1)));
      const route = [point(bends[0][0], bends[0][1])];
      for (let k = 1; k < bends.length; k++) {
        const [[u, v], [s, t]] = [bends[k - 1], bends[k]];
        if (s - u > 0.05) route.push(point((u + s) / 2, v), point((u + s) / 2, t), point(s, t)); // a box may fill its column
      }
      return turned[e] ? route.reverse() : route;
    });
    const frames = clusters.flatMap(({ title }, cluster) => {
      if (!corners[cluster]) return [];
      const [a, b] = [point(x[first[cluster]] - width[first[cluster]] / 2 - before[cluster], corners[cluster].low), point(x[last[cluster]] + width[last[cluster]] / 2 + after[cluster], corners[cluster].high)];
      return [{ title, cluster, corners: [0, 1].map((k) => Math.min(a[k], b[k])).concat([0, 1].map((k) => Math.max(a[k], b[k]))) }];
    });
    const labels = uses.map((_, e) => {
      const chain = chains[e];
      return rooms[e] && chain.length > 2 ? point(x[rank[chain[chain.length - 2]]], y[chain[chain.length - 2]]) : null;
    });
    return { labelled: labels.some((label) => label), at, size: boxes.map((box) => box.size), routes, labels, frames };
  };
})();
