/**
 * Layered graph layout from left to right (Sugiyama): columns by longest path, then few crossings, then level edges.
 *
 * An edge over several columns gets a bend in each, so that it crosses no node. Long edges from the same node share their
 * bends; otherwise 1,000 steps could need 100,000. All passes are linear in the number of nodes, bends and edges.
 */

const SWEEPS = 8;
const MOST_BENDS = 20_000; // beyond this, long edges are drawn straight

/**
 * @param {string[]} ids
 * @param {[string, string][]} edges between them, without cycles; an edge that closes a cycle does not affect the columns
 * @param {{width: number, height: number, gapX: number, gapY: number, bendY: number}} size of nodes, and the gaps between them
 * @returns {{width: number, height: number, nodes: Map<string, {x: number, y: number}>,
 *            edges: {from: string, to: string, bends: {x: number, y: number}[]}[]}} centres of nodes and bends
 */
export function layered(ids, edges, size) {
  const nodes = new Map(ids.map((id) => [id, { id, column: 0, place: 0, y: 0, before: [], after: [] }]));
  const known = edges.filter(([from, to]) => from !== to && nodes.has(from) && nodes.has(to));
  setColumns(nodes, known);
  const columns = [];
  const add = (node) => (columns[node.column] ??= []).push(node);
  nodes.forEach(add);
  const ways = led(nodes, known, add);
  for (const column of columns) column.forEach((node, at) => (node.place = at));
  for (let sweep = 0; sweep < SWEEPS; sweep++) sort(columns, sweep % 2 === 0);
  setHeights(columns, size);
  const stepX = size.width + size.gapX;
  const middle = (node) => ({ x: node.column * stepX + size.width / 2, y: node.y });
  const all = columns.flat();
  return {
    width: columns.length * stepX - size.gapX,
    height: Math.max(0, ...all.map((node) => node.y + heightOf(node, size) / 2)),
    nodes: new Map([...nodes].map(([id, node]) => [id, middle(node)])),
    edges: ways.map(({ from, to, bends }) => ({ from: from.id, to: to.id, bends: bends.map(middle) })),
  };
}

const isBend = (node) => node.id === undefined;
const heightOf = (node, size) => (isBend(node) ? size.bendY : size.height);

/** Put each node one column after its last predecessor. */
function setColumns(nodes, edges) {
  const left = new Map([...nodes.keys()].map((id) => [id, 0]));
  const next = new Map([...nodes.keys()].map((id) => [id, []]));
  for (const [from, to] of edges) {
    left.set(to, left.get(to) + 1);
    next.get(from).push(to);
  }
  const ready = [...nodes.keys()].filter((id) => left.get(id) === 0);
  for (const id of ready) {
    for (const to of next.get(id)) {
      nodes.get(to).column = Math.max(nodes.get(to).column, nodes.get(id).column + 1);
      left.set(to, left.get(to) - 1);
      if (left.get(to) === 0) ready.push(to);
    }
  }
}

/** Return the bends of each edge in the columns between; edges from the same node share them. */
function led(nodes, edges, add) {
  const shared = new Map();
  let room = MOST_BENDS;
  const join = (one, other) => {
    one.after.push(other);
    other.before.push(one);
  };
  return edges.map(([a, b]) => {
    const [from, to] = [nodes.get(a), nodes.get(b)];
    const bends = [];
    const trail = shared.get(a) ?? shared.set(a, []).get(a);
    let last = from;
    for (let column = from.column + 1; column < to.column; column++) {
      let bend = trail[column];
      if (!bend) {
        if (room-- <= 0) break;
        bend = trail[column] = { column, place: 0, y: 0, before: [], after: [] };
        add(bend);
        join(last, bend);
      }
      bends.push(bend);
      last = bend;
    }
    join(last, to);
    return { from, to, bends };
  });
}

/** Order each column by the mean position of its neighbours in the previous (or next) column. */
function sort(columns, isForward) {
  const order = isForward ? columns : [...columns].reverse();
  for (const column of order) {
    for (const node of column) {
      const near = isForward ? node.before : node.after;
      node.wish = near.length ? near.reduce((sum, { place }) => sum + place, 0) / near.length : node.place;
    }
    column.sort((one, other) => one.wish - other.wish || one.place - other.place);
    const scale = 1 / column.length; // comparable between columns of different lengths
    column.forEach((node, at) => (node.place = (at + 0.5) * scale));
  }
}

/** Set the heights so that nodes are as level with their neighbours as the gaps allow. */
function setHeights(columns, size) {
  const room = (one, other) => (heightOf(one, size) + heightOf(other, size)) / 2 + (isBend(one) && isBend(other) ? 0 : size.gapY);
  for (const column of columns) {
    let y = 0;
    column.forEach((node, at) => (node.y = y += at ? room(column[at - 1], node) : 0));
    for (const node of column) node.y -= y / 2;
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const isForward = sweep % 2 === 0;
    for (const column of isForward ? columns : [...columns].reverse()) {
      for (const node of column) {
        const near = isForward ? node.before : node.after;
        node.wish = near.length ? near.reduce((sum, { y }) => sum + y, 0) / near.length : node.y;
        node.weight = isBend(node) ? 8 : 1; // long edges stay level
      }
      spread(column, room);
    }
  }
  const top = Math.min(...columns.flat().map((node) => node.y - heightOf(node, size) / 2));
  for (const node of columns.flat()) node.y -= top;
}

/** Move nodes as near to their wishes as the gaps allow (least squares): nodes that would overlap move as one block. */
function spread(column, room) {
  const blocks = []; // `start`: index of the block's first node
  let offset = 0;
  column.forEach((node, at) => {
    offset += at ? room(column[at - 1], node) : 0;
    node.offset = offset;
    let block = { start: at, sum: (node.wish - offset) * node.weight, weight: node.weight };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight > block.sum / block.weight) {
      const before = blocks.pop();
      block = { start: before.start, sum: before.sum + block.sum, weight: before.weight + block.weight };
    }
    blocks.push(block);
  });
  blocks.forEach(({ start, sum, weight }, at) => {
    const end = blocks[at + 1]?.start ?? column.length;
    for (const node of column.slice(start, end)) node.y = sum / weight + node.offset;
  });
}
