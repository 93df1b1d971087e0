// @ts-check
// Formulas typed in the page, by the rules and with the messages of microgrid.expressions: read, never run as code.
"use strict";

/** @typedef { { kind: "number" | "name" | "sign" | "operator" | "call" | "other", from: number, to: number,
 *    operator?: string, operands?: FormulaPart[], value?: number, keywords?: boolean } } FormulaPart */
/** @typedef { { names: Map<string, number>, program: [number | string | { operator: string } | { call: string }, number][] } } Formula */

class ExpressionError extends Error {
  /** @param {string} message @param {string} [text] @param {number} [column] where, in characters from 1; 0: of the whole */
  constructor(message, text = "", column = 0) {
    const letters = [...text];
    const start = Math.max(0, column - 50);
    const shown = letters.slice(start, column + 25).map((c) => (/[\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(c) ? c : "�"));
    const wide = shown.slice(0, Math.max(0, column - 1 - start)).filter((c) => /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u.test(c)).length;
    super(column ? `${message}\n  ${shown.join("")}\n  ${" ".repeat(column - 1 - start + wide)}^ column ${column}` : message);
    this.column = column;
  }
}

const expressions = (() => {
  const ALLOWED = "numbers, names, + - * / // % **, parentheses and functions such as tanh(x)";
  const KEYWORDS = new Set("False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield".split(" "));
  /** @type {Record<string, string>} */
  const CLOSING = { "(": ")", "[": "]", "{": "}" };
  // How tightly an operator holds; the last of these groups from the right. What is no part of a formula is read as
  // Python reads it, so that the message names all of it.
  /** @type {Record<string, number>} */
  const STRENGTHS = { "<": 1, ">": 1, "==": 1, "!=": 1, "<=": 1, ">=": 1, "|": 2, "^": 3, "&": 4, "<<": 5, ">>": 5, "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7, "@": 7, "**": 9 };
  const SIGN = 8;
  const TOKEN = /(?<space> +|#.*)|(?<number>0[xX](?:_?[\da-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|(?:\d(?:_?\d)*\.?(?:\d(?:_?\d)*)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?)|(?<name>[\p{XIDS}_]\p{XIDC}*)|(?<string>'[^']*'|"[^"]*")|(?<sign>\.\.\.|\*\*=|\/\/=|<<=|>>=|:=|->|\*\*|\/\/|<<|>>|[=!<>+\-*/%&|^@]=|[-+*/%@&|^~<>()[\]{},:.;=!$?])/uy;

  /** @param {string} text */
  const error = (text) => (/** @type {string} */ message, /** @type {number} */ at) => new ExpressionError(message, text, [...text.slice(0, at)].length + 1);

  /** @param {string} text */
  function tokens(text) {
    const fail = error(text);
    const refuse = (/** @type {string} */ message, /** @type {number} */ at) => fail(`cannot read the formula: ${message}; it takes ${ALLOWED}`, at);
    const found = [];
    /** @type {{ word: string, at: number }[]} */
    const open = [];
    for (let at = 0; at < text.length; ) {
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(text);
      const letter = String.fromCodePoint(text.codePointAt(at));
      if (!match) {
        if (/['"]/.test(letter)) throw refuse("unterminated string literal (detected at line 1)", at);
        if (letter === "\\") throw refuse("unexpected character after line continuation character", at);
        if (letter.codePointAt(0) > 127) throw refuse(`invalid character '${letter}' (U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")})`, at);
        throw refuse("invalid syntax", at);
      }
      const [word] = match;
      const kind = Object.keys(match.groups).find((key) => match.groups[key] !== undefined);
      const after = at + word.length;
      if (kind === "number") {
        if (/^0\d/.test(word) && !/[.eEjJ]/.test(word) && /[1-9]/.test(word)) throw refuse("leading zeros in decimal integer literals are not permitted; use an 0o prefix for octal integers", at);
        if (/^[jJ](?!\p{XIDC})/u.test(text.slice(after))) {
          found.push({ kind: "imaginary", word: word + text[after], at, depth: open.length });
          at = after + 1;
          continue;
        }
        if (/^[\p{XIDC}]/u.test(text.slice(after))) throw refuse("invalid decimal literal", text[after] === "_" ? after : after - 1);
      }
      if (word in CLOSING) open.push({ word, at });
      else if (kind === "sign" && /^[)\]}]$/.test(word)) {
        const opened = open.pop();
        if (!opened) throw refuse(`unmatched '${word}'`, at);
        if (CLOSING[opened.word] !== word) throw refuse(`closing parenthesis '${word}' does not match opening parenthesis '${opened.word}'`, at);
      }
      if (kind !== "space") found.push({ kind, word, at, depth: open.length });
      at = after;
    }
    found.push({ kind: "end", word: "", at: text.length, depth: open.length });
    return { found, unclosed: open.at(-1), refuse, fail };
  }

  /** Read a tree. @param {string} text @returns {FormulaPart} */
  function tree(text) {
    const { found, unclosed, refuse } = tokens(text);
    let k = 0;
    const failed = (/** @type {string} */ message, /** @type {number} */ at) => (unclosed ? refuse(`'${unclosed.word}' was never closed`, unclosed.at) : refuse(message, at));
    const other = (/** @type {number} */ from) => /** @type {FormulaPart} */ ({ kind: "other", from, to: found[k - 1].at + found[k - 1].word.length });
    const starts = () => !["end", "sign"].includes(found[k].kind) || /^[-+~([{]$/.test(found[k].word);
    const stop = () => {
      throw failed("invalid syntax", found[k].at);
    };
    const take = (/** @type {string} */ word) => found[k].kind === "sign" && found[k].word === word && !!++k;

    // What stands between brackets, up to the closing one
    const list = (/** @type {string} */ close) => {
      const parts = [];
      let keywords = false;
      while (!take(close)) {
        const from = found[k].at;
        if (close === ")" && found[k].kind === "name" && found[k + 1].word === "=") {
          k += 2;
          keywords = true;
        }
        const star = take("*") || take("**");
        let part = binary(0);
        if (star) part = other(from);
        if (close !== "]" && take(":=")) {
          binary(0);
          part = other(from);
        } else if (take(":")) {
          if (starts()) binary(0);
          part = other(from);
        }
        parts.push(part);
        if (take(",")) continue;
        if (found[k].word === close && found[k].kind === "sign") continue;
        if (starts() && found[k].kind !== "end") throw failed("invalid syntax. Perhaps you forgot a comma?", from);
        stop();
      }
      return { parts, keywords };
    };

    /** @returns {FormulaPart} */
    const atom = () => {
      const { kind, word, at } = found[k];
      if (kind === "number") {
        k++;
        return { kind, from: at, to: at + word.length, value: Number(word.replaceAll("_", "")) };
      }
      if (kind === "name") {
        k++;
        return { kind, from: at, to: at + word.length };
      }
      if (kind === "string" || kind === "imaginary" || word === "...") {
        k++;
        return other(at);
      }
      if (kind === "sign" && word in CLOSING) {
        k++;
        const comma = k;
        const { parts } = list(CLOSING[word]);
        const alone = word === "(" && parts.length === 1 && found[k - 2].word !== ",";
        return alone && parts[0].kind !== "other" ? parts[0] : alone && comma ? { ...parts[0] } : other(at);
      }
      return stop();
    };

    const postfix = () => {
      const from = found[k].at;
      let part = atom();
      for (;;) {
        if (take("(")) {
          const { parts, keywords } = list(")");
          part = { ...other(from), kind: "call", operands: [part, ...parts], keywords };
        } else if (take("[")) {
          list("]");
          part = other(from);
        } else if (take(".")) {
          if (found[k++].kind !== "name") (k--, stop());
          part = other(from);
        } else return part;
      }
    };

    /** @param {number} strength @returns {FormulaPart} */
    const binary = (strength) => {
      const from = found[k].at;
      const word = found[k].word;
      /** @type {FormulaPart} */
      let left;
      if (found[k].kind === "sign" && /^[-+~]$/.test(word)) {
        k++;
        const operand = binary(SIGN);
        left = word === "~" ? other(from) : { kind: "sign", operator: word, operands: [operand], from, to: operand.to };
      } else left = postfix();
      for (;;) {
        const { kind, word: operator } = found[k];
        const holds = kind === "sign" ? STRENGTHS[operator] : undefined;
        if (holds === undefined || holds < strength) return left;
        k++;
        const right = binary(operator === "**" ? SIGN : holds + 1);
        const span = { from: Math.min(from, left.from), to: found[k - 1].at + found[k - 1].word.length };
        left = holds === 1 || /^([|&@]|<<|>>)$/.test(operator) ? { kind: "other", ...span } : { kind: "operator", operator, operands: [left, right], ...span };
      }
    };

    const whole = binary(0);
    if (take(",")) {
      while (starts()) {
        binary(0);
        if (!take(",")) break;
      }
      if (found[k].kind !== "end") stop();
      return other(0);
    }
    if (found[k].kind !== "end") stop();
    return whole;
  }

  /**
   * Read a formula.
   *
   * @param {string} given
   * @param {Record<string, { least: number, most: number | null }>} functions that it may call, and with how many arguments
   * @returns {Formula} its names, each with its column, and what to do, operands first
   */
  function parse(given, functions) {
    const text = given.replace(/\s/g, " ").trim();
    if (!text) throw new ExpressionError(`the formula is empty; it takes ${ALLOWED}`);
    const fail = error(text);
    for (const { 0: word, index } of text.matchAll(/[\p{L}_][\p{L}\p{N}_]*/gu))
      if (KEYWORDS.has(word)) throw fail(`'${word}' is a word of Python's own; choose another name, such as '${word}_'`, index);
    const names = new Map();
    /** @type {Formula["program"]} */
    const program = [];
    const source = (/** @type {FormulaPart} */ part) => text.slice(part.from, part.to);
    // A stack of our own: a sum of a thousand terms is a tree a thousand deep.
    /** @type {[FormulaPart, boolean][]} */
    const stack = [[tree(text), false]];
    while (stack.length) {
      const [part, done] = stack.pop();
      let operands = part.operands ?? [];
      if (part.kind === "operator" && part.operator === "^") throw fail("a power is written **, not ^", text.indexOf("^", operands[0].to));
      if (part.kind === "other" || part.keywords || (part.kind === "call" && operands[0].kind !== "name")) throw fail(`${quoted(source(part))} is not part of a formula; it takes ${ALLOWED}`, part.from);
      if (part.kind === "call") {
        const name = source(operands[0]).normalize("NFKC");
        operands = operands.slice(1);
        if (!Object.hasOwn(functions, name)) throw fail(`unknown function ${quoted(name)}${near(name, Object.keys(functions)) || `; there are ${Object.keys(functions).sort().join(", ")}`}`, part.from);
        const { least, most } = functions[name];
        if (operands.length < least || (most !== null && operands.length > most)) {
          const takes = most === null ? "at least 1 argument" : `${[...Array(most - least + 1).keys()].map((i) => least + i).join(" or ")} argument(s)`;
          throw fail(`${name}() takes ${takes}, not ${operands.length}`, part.from);
        }
      }
      if (operands.length && !done) {
        stack.push([part, true], ...operands.toReversed().map((operand) => /** @type {[FormulaPart, boolean]} */ ([operand, false])));
        continue;
      }
      if (part.kind === "number") program.push([part.value, 0]);
      else if (part.kind === "name") {
        const name = source(part).normalize("NFKC");
        if (!names.has(name)) names.set(name, [...text.slice(0, part.from)].length + 1);
        program.push([name, 0]);
      } else if (part.kind === "call") program.push([{ call: source(part.operands[0]).normalize("NFKC") }, operands.length]);
      else program.push([{ operator: part.operator }, operands.length]);
    }
    return { names, program };
  }

  // As Python writes a text: the first of its letters, between quotes that it lacks.
  /** @param {string} text */
  function quoted(text) {
    const shown = [...text].slice(0, 40).join("").replaceAll("\\", "\\\\");
    return shown.includes("'") && !shown.includes('"') ? `"${shown}"` : `'${shown.replaceAll("'", "\\'")}'`;
  }

  // Names that are alike, as Python's difflib finds them: two thirds or so of their letters in common.
  /** @param {string} word @param {string[]} words */
  function near(word, words) {
    const start = [...word].slice(0, 40);
    const scored = words.map((other) => ({ other, ratio: ratio([...other], start) })).filter(({ ratio }) => ratio >= 0.6);
    scored.sort((a, b) => b.ratio - a.ratio || (a.other < b.other ? 1 : -1));
    const best = scored.slice(0, 3).map(({ other }) => other);
    return best.length ? ` (did you mean ${best.join(" or ")}?)` : "";
  }

  /** @param {string[]} a @param {string[]} b */
  function ratio(a, b) {
    return a.length + b.length ? (2 * matching(a, b)) / (a.length + b.length) : 1;
  }

  // The longest common stretch, and what matches on either side of it.
  /** @param {string[]} a @param {string[]} b @returns {number} */
  function matching(a, b) {
    let [best, at, to] = [0, 0, 0];
    for (let i = 0; i < a.length; i++)
      for (let j = 0; j < b.length; j++) {
        let n = 0;
        while (i + n < a.length && j + n < b.length && a[i + n] === b[j + n]) n++;
        if (n > best) [best, at, to] = [n, i, j];
      }
    return best ? best + matching(a.slice(0, at), b.slice(0, to)) + matching(a.slice(at + best), b.slice(to + best)) : 0;
  }

  return { parse };
})();
