/** The functions of the operations, each put there by a script of its own (see program.py). */
declare const operations: Function[];
