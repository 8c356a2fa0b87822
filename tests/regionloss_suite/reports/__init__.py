"""The report in other formats, one module with `render` for each, and the modules that read and compare reports."""
