"""The report in other forms, each a module with `render`, and what reads and compares stored reports."""
