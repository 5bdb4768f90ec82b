"""audit.json to HTML, Markdown, JUnit and SARIF. Imports no torch."""
