import js from "@eslint/js";

// The scripts of a page share one global scope: which names are there, and who assigns to them, tsc sees and eslint
// does not.
export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { sourceType: "script", ecmaVersion: 2023 },
    rules: {
      "no-undef": "off",
      "no-unassigned-vars": "off",
      "no-unused-vars": ["error", { vars: "local" }],
      "no-var": "error",
      eqeqeq: "error",
    },
  },
  { files: ["docs/try/*.js"], languageOptions: { sourceType: "module" } },
];
